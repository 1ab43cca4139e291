/** `turnout/router`: routing alone, without ONNX Runtime. */
export { type ErrorCode, TurnoutError } from './errors.js';
export { assertGoodRows } from './router/bad-rows.js';
export { capacityOf } from './router/capacity.js';
export { createRouter } from './router/create.js';
export { mergeOptions, parseOptions, RouterOptions, type RouterOverrides } from './router/options.js';
export { planDispatch } from './router/plan.js';
export { type PresetName, presetNames, presetOptions } from './router/presets.js';
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
