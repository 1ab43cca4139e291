/** turnout: Mixture-of-Experts routing for Node.js. The routing alone, without ONNX Runtime, is `turnout/router`. */
export type {
  ExpertBackend,
  ExpertBatch,
  ExpertFile,
  ExpertResults,
  LaneStats,
  ProcessStats,
  Residency,
  RunOptions,
} from './experts/backend.js';
export type { FleetOptions, ProcessLimits, StartOptions } from './experts/fleet.js';
export { openInline } from './experts/inline.js';
export type { LanePlan } from './experts/placement.js';
export {
  type BeforeAfter,
  balanceOf,
  type DeviceBalance,
  indexSlots,
  type LayerPlacement,
  type PlacementPlan,
  planLanes,
  planPlacement,
  type SlotIndex,
} from './experts/plan.js';
export type { PlanOptions } from './experts/plan-options.js';
export type { LaneEvent } from './experts/process-lane.js';
export {
  type BackendUpdate,
  type ExpertUpdate,
  openProcesses,
  ProcessesBackend,
  type ProcessesOptions,
} from './experts/processes.js';
export type { PlainTensor } from './experts/session.js';
export { openThreads } from './experts/threads.js';
export { type Gate, openGate } from './gate.js';
export { Engine, type EngineOptions, type EngineStats, type StepReport } from './model/engine.js';
export type { EngineInfo, LayerInfo, RemoteResult, ThreadOptions } from './model/engine-messages.js';
export type { EngineSnapshot, LayerSnapshot } from './model/engine-snapshot.js';
export { EngineThread, type OpenThreadOptions, type RemoteGeneration } from './model/engine-thread.js';
export type { GenerateOptions, GenerateResult, Generation, Piece, TextToken } from './model/generate.js';
export type { LayerAnswer, LayerRequest } from './model/layer-calls.js';
export type { RouterChoice } from './model/layer-router.js';
export { type Manifest, ManifestSchema } from './model/manifest.js';
export {
  type Feeds,
  MoeModel,
  type OpenModelOptions,
  type ScoreOptions,
  type Trace,
} from './model/moe-model.js';
export {
  type BackendName,
  type BackendOptions,
  type LayerSource,
  type OpenLayer,
  openMoeLayer,
} from './model/open.js';
export {
  type Package,
  packageProblems,
  readPackage,
  type VerifyOptions,
  verifyPackage,
} from './model/package.js';
export type { ModelTimes, StepTimeline } from './model/program.js';
export {
  createSampler,
  type Sampled,
  type Sampler,
  type SamplerOptions,
  type TokenLogprob,
} from './model/sampler.js';
export type { EndReason, Sequence, SequenceEvent, SequenceRequest, SequenceStep } from './model/sequence.js';
export type { ExpertVersion, LayerUpdate, ModelUpdate } from './model/update.js';
export {
  type LayerCall,
  type LayerEvent,
  type LayerOutput,
  type LayerParts,
  MoeLayer,
  type StageTimes,
} from './moe-layer.js';
export * from './router.js';
