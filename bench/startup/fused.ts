/** One ONNX file for each layer, with the fused operator over all of its experts. */
export interface FusedFiles {
  readonly files: readonly string[];
  /** In all of them. */
  readonly experts: number;
  /** E of the first. */
  readonly layerExperts: number;
}
