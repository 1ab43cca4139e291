/** `turnout/router`: routing alone, without ONNX Runtime. */
export { type ErrorCode, TurnoutError } from './errors.js';
export { assertGoodRows } from './router/bad-rows.js';
export { capacityOf } from './router/capacity.js';
export { combine } from './router/combine.js';
export { createRouter } from './router/create.js';
export { gatherRows } from './router/dispatch.js';
export { type Imbalance, imbalanceOf, type Load, loadOf } from './router/load.js';
export { type LayerHistory, LoadHistory, type LoadHistoryOptions } from './router/load-history.js';
export {
  type LayerLoad,
  LoadTracker,
  type LoadTrackerOptions,
  type WindowLoad,
} from './router/load-tracker.js';
export { loseExperts } from './router/lose.js';
export { type LossContext, type Losses, lossesOf, smoothLoadLoss } from './router/losses.js';
export { mergeOptions, parseOptions, RouterOptions, type RouterOverrides } from './router/options.js';
export { planDispatch } from './router/plan.js';
export { type PresetName, presetNames, presetOptions } from './router/presets.js';
export { type RoutingReport, reportRouting } from './router/report.js';
export {
  type BadRow,
  type CapacityGroup,
  type DispatchPlan,
  DROP_REASONS,
  type DropReason,
  type RequestState,
  type Router,
  type RouterInput,
  type Routing,
  type SequenceSpan,
} from './router/routing.js';
export { type Matrix, matrix, row } from './tensor.js';
