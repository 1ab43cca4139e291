import type { GenerateResult, Piece } from '../../model/generate.js';

/** How one kind of completion writes its answers. */
export interface Shape {
  /** Of ids. */
  readonly prefix: string;
  /** Name of a whole answer, and of a part of a streamed one. */
  readonly object: string;
  readonly chunkObject: string;
  /** Choice `index` whole. */
  choice(index: number, result: GenerateResult): object;
  /** What its stream begins with, if anything. */
  first(index: number): object | undefined;
  piece(index: number, piece: Piece): object;
  last(index: number, result: GenerateResult): object;
}
