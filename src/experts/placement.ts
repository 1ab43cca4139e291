import { TurnoutError } from '../errors.js';

/** Which lanes hold which experts. */
export interface Placement {
  /** Number of lanes. */
  readonly lanes: number;
  /** [E] for each expert the lanes that hold it: at least one, ascending. */
  readonly replicas: readonly (readonly number[])[];
}

/** One lane as options name it: where it computes, and the experts that it holds by their number in the backend. */
export interface LanePlan {
  /** `cpu`, `cpu:LIST`, `cuda:N`, ...; see `parseDevice`. */
  readonly device: string;
  readonly experts: readonly number[];
}

/** Every lane holds every expert. */
export function everywhere(experts: number, lanes: number): Placement {
  const all = Array.from({ length: lanes }, (_, lane) => lane);
  return { lanes, replicas: Array.from({ length: experts }, () => all) };
}

/**
 * Lanes where none are named: expert e, replica r lives on device (e + r) modulo their number; in a process of its own
 * or in that of the device. Throws TURNOUT_OPTIONS_INVALID.
 */
export function placeOnDevices(
  experts: number,
  options: { devices?: readonly string[]; oneProcessPer?: 'expert' | 'device'; replicas?: number },
): LanePlan[] {
  const { devices = ['cpu'], replicas = 1, oneProcessPer } = options;
  if (!Array.isArray(devices)) throw badPlan('expected devices to be a list of names');
  if (devices.length === 0) throw badPlan('expected at least one device, got none');
  if (!Number.isInteger(replicas) || replicas < 1 || replicas > devices.length) {
    throw badPlan(`expected replicas from 1 to the ${devices.length} devices, got ${replicas}`);
  }
  if (oneProcessPer !== undefined && oneProcessPer !== 'expert' && oneProcessPer !== 'device') {
    throw badPlan(`expected oneProcessPer to be expert or device, got ${oneProcessPer}`);
  }
  return devices.flatMap((device, d) => {
    const own = Array.from({ length: experts }, (_, e) => e).filter(
      (e) => (d - e + experts * devices.length) % devices.length < replicas,
    );
    const together =
      oneProcessPer === undefined ? !/^cpu(:|$)/.test(String(device)) : oneProcessPer === 'device';
    if (together) return own.length > 0 ? [{ device, experts: own }] : [];
    return own.map((expert) => ({ device, experts: [expert] }));
  });
}

/** The placement that lanes make. Throws TURNOUT_OPTIONS_INVALID where an expert is on none, is unknown, or is named twice. */
export function placementOf(lanes: readonly LanePlan[], experts: number): Placement {
  if (!Array.isArray(lanes)) throw badPlan('expected a list of lanes');
  const replicas: number[][] = Array.from({ length: experts }, () => []);
  for (const [lane, plan] of lanes.entries()) {
    if (!Array.isArray(plan?.experts)) throw badPlan(`lane ${lane}: expected {device, experts: [...]}`);
    if (plan.experts.length === 0) throw badPlan(`lane ${lane}: expected at least one expert, got none`);
    for (const expert of plan.experts) {
      const own = replicas[expert];
      if (!own || !Number.isInteger(expert)) {
        throw badPlan(`lane ${lane}: expected experts from 0 to ${experts - 1}, got ${expert}`);
      }
      if (own.at(-1) === lane) throw badPlan(`lane ${lane}: expected each expert once, got ${expert} twice`);
      own.push(lane);
    }
  }
  const nowhere = replicas.findIndex((own) => own.length === 0);
  if (nowhere >= 0) throw badPlan(`expected every expert on a lane, got none for expert ${nowhere}`);
  return { lanes: lanes.length, replicas };
}

function badPlan(message: string): TurnoutError {
  return new TurnoutError('TURNOUT_OPTIONS_INVALID', `placement: ${message}`);
}

/** Rows `start` to `start + rows` of the batch at index `batch` of a call. */
export interface Piece {
  readonly batch: number;
  readonly start: number;
  readonly rows: number;
  /** In rows, its call included; see `LaneLoads`. */
  readonly cost: number;
}

/**
 * What an expert call costs besides its rows, in rows, where nobody has measured it: the time to read its weights once.
 * On a core that reads 22 GB/s and computes 240 GFLOP/s: 4 bytes a weight against 2 operations a weight and row, so about
 * 22 (a relu expert of 1024 x 2048 takes 0.9 ms + 0.035 ms a row from 16 rows on). Half the arithmetic makes half of it.
 */
const CALL_ROWS = 20;
/** Fewest rows worth a call of their own when a batch is split. Mapped experts need at least 2 to keep their bits. */
const MIN_PIECE = 16;

/**
 * Rows that int4 products of groups above 32 compute together; those left over at the end round otherwise. Pieces begin at
 * its multiples, so that each row has the bits that it has in the whole batch.
 */
const ROW_TILE = 2;

/** By how much the paces of lanes may differ from the mean, and each expert still begin at its home. */
const ALIKE = 0.25;

/** Lanes that all end together must not all end later by the last digit. */
const ROUNDING = 1 + 1e-9;

/** Cost of n rows of one expert on a lane, in rows; `callRows` as in `LaneLoads`. */
export function pieceCost(rows: number, callRows?: number): number {
  return workCost(1, rows, callRows);
}

/** Cost of several batches and all their rows, in rows. */
export function workCost(batches: number, rows: number, callRows = CALL_ROWS): number {
  return batches * callRows + rows;
}

/** What a call costs besides its rows is to be at most one of so many parts of a piece. */
const PIECE_PARTS = 16;
/** Fewer rows than this take longer each. */
const LEAST_PIECE = 64;

/**
 * Rows of the pieces that batches of many are split into. Lanes share them more evenly, and what an expert has between
 * its products stays in the cache: 256 rows of an int4 expert of 2048 x 2048 take 6 % longer in one piece than in four.
 */
export function pieceRowsOf(callRows: number): number {
  return Math.max(LEAST_PIECE, Math.round(PIECE_PARTS * callRows));
}

interface Lane {
  /** Rows that it has ahead, calls included; the pieces are part of them. */
  cost: number;
  /** What one row takes on this lane, as a multiple of what it takes on another. */
  readonly pace: number;
  readonly pieces: Piece[];
}

/** The lanes that may have a piece. */
type Replicas = (piece: Piece) => readonly number[];

export interface LaneLoads {
  /** [lanes] cost that lanes have ahead of them already; none where left out. */
  readonly busy?: readonly number[];
  /** [lanes] what a row takes on each lane, in any unit: of devices that differ, or a core that others use too. */
  readonly paces?: readonly number[];
  /**
   * What an expert call takes besides its rows, in rows, as it was measured; then batches of many rows become pieces, and
   * only as lanes need it where left out.
   */
  readonly callRows?: number | undefined;
}

/**
 * Spreads the batches of one layer call over the lanes that hold their experts, so that the lanes end together. Among
 * lanes that are idle and about as fast each expert has a home, where its weights are more likely in the cache from call
 * to call; what brings the end of the last lane forward moves to others, or changes places with something smaller. Among
 * lanes that differ, or where that leaves them uneven, each batch goes to the one that ends first with it, the longest
 * first (Graham 1969). Either way the last end is at most 4/3 of the best without splitting, where every lane holds every
 * expert and all are as fast. Then rows of the largest batches move from the lane that ends last to the one that ends
 * first. The same arguments give the same pieces.
 */
export function spread(
  batches: readonly { readonly expert: number; readonly rows: number }[],
  placement: Placement,
  { busy = [], paces = [], callRows }: LaneLoads = {},
): Piece[][] {
  const newLanes = (): Lane[] =>
    Array.from({ length: placement.lanes }, (_, i) => ({
      cost: busy[i] ?? 0,
      pace: paces[i] ?? 1,
      pieces: [],
    }));
  const pieces: Piece[] = [];
  for (const [batch, { rows }] of batches.entries()) addParts(pieces, rows, batch, callRows);
  const replicas: Replicas = ({ batch }) => placement.replicas[batches[batch]!.expert]!;
  pieces.sort((a, b) => b.rows - a.rows);
  let lanes = newLanes();
  const alike = lanes.every(({ cost, pace }) => cost === 0 && Math.abs(pace - 1) < ALIKE);
  if (alike) {
    for (const piece of pieces) {
      const own = replicas(piece);
      give(lanes[own[batches[piece.batch]!.expert % own.length]!]!, piece);
    }
    balance(lanes, replicas);
  }
  if (!alike || isUneven(lanes, pieces)) {
    lanes = newLanes();
    for (const piece of pieces) give(lanes[earliest(replicas(piece), lanes, piece.cost)]!, piece);
  }
  level(lanes, replicas, callRows);
  return lanes.map(({ pieces }) => pieces.sort((a, b) => a.batch - b.batch || a.start - b.start));
}

/** Gives `pieces` a batch in equal parts, as large as pieces are to be. */
function addParts(pieces: Piece[], rows: number, batch: number, callRows: number | undefined): void {
  const count = callRows === undefined ? 1 : Math.max(1, Math.round(rows / pieceRowsOf(callRows)));
  for (let i = 1, start = 0; i <= count; i++) {
    const end = i === count ? rows : ROW_TILE * Math.floor((i * rows) / count / ROW_TILE);
    const size = end - start;
    pieces.push({ batch, start, rows: size, cost: pieceCost(size, callRows) });
    start = end;
  }
}

function endOf({ cost, pace }: Lane): number {
  return cost * pace;
}

function give(lane: Lane, piece: Piece): void {
  lane.pieces.push(piece);
  lane.cost += piece.cost;
}

function take(lane: Lane, piece: Piece): Piece {
  lane.pieces.splice(lane.pieces.indexOf(piece), 1);
  lane.cost -= piece.cost;
  return piece;
}

/** Whether a lane has more than 4/3 of the least that the fullest one can have: the mean, or the largest piece. */
function isUneven(lanes: readonly Lane[], pieces: readonly Piece[]): boolean {
  const costs = lanes.map(({ cost }) => cost);
  const mean = costs.reduce((sum, cost) => sum + cost, 0) / lanes.length;
  const largest = pieces[0]?.cost ?? 0;
  return Math.max(...costs) > (4 / 3) * Math.max(mean, largest);
}

/** By how much an exchange must bring the end forward to be worth two experts away from home. */
const EXCHANGE_GAIN = 0.01;

/** A piece that goes from the lane that ends last to another, maybe for one of that lane's; `end` is when the later of the two ends then. */
interface Move {
  readonly piece: Piece;
  readonly to: Lane;
  readonly back?: Piece;
  readonly end: number;
}

/** Moves pieces from the lane that ends last, or exchanges them for smaller ones, while that brings its end forward. */
function balance(lanes: readonly Lane[], replicas: Replicas): void {
  for (;;) {
    const full = lastOf(lanes);
    const move = full && (bestMove(full, lanes, replicas) ?? bestExchange(full, lanes, replicas));
    if (!move) return;
    const { piece, to, back } = move;
    give(to, take(full, piece));
    if (back) give(full, take(to, back));
  }
}

/** The move that brings the lane and the one that takes the piece to the earliest end, of those that bring it forward. */
function bestMove(full: Lane, lanes: readonly Lane[], replicas: Replicas): Move | undefined {
  let best: Move | undefined;
  for (const piece of full.pieces) {
    const { cost } = piece;
    const to = lanes[earliest(replicas(piece), lanes, cost)]!;
    const end = Math.max((full.cost - cost) * full.pace, (to.cost + cost) * to.pace);
    if (to !== full && end < (best?.end ?? endOf(full) / ROUNDING)) best = { piece, to, end };
  }
  return best;
}

/** The same for a piece and one of the lane that ends first of those that hold it, where the other lane holds that one too. */
function bestExchange(full: Lane, lanes: readonly Lane[], replicas: Replicas): Move | undefined {
  let best: Move | undefined;
  const wanted = endOf(full) * (1 - EXCHANGE_GAIN);
  for (const piece of full.pieces) {
    const to = lanes[earliest(replicas(piece), lanes, 0)]!;
    const together = (full.cost + to.cost) / (1 / full.pace + 1 / to.pace);
    if (together >= wanted) continue;
    for (const back of to.pieces) {
      const cost = piece.cost - back.cost;
      const end = Math.max((full.cost - cost) * full.pace, (to.cost + cost) * to.pace);
      const gains = cost > 0 && end < (best?.end ?? wanted);
      if (gains && replicas(back).some((lane) => lanes[lane] === full)) best = { piece, to, back, end };
    }
  }
  return best;
}

/** The lane that ends last, of those that have pieces. */
function lastOf(lanes: readonly Lane[]): Lane | undefined {
  let last: Lane | undefined;
  for (const lane of lanes)
    if (lane.pieces.length > 0 && (last === undefined || endOf(lane) > endOf(last))) last = lane;
  return last;
}

/** Moves rows from the lane that ends last to the one that ends first, while a piece worth a call brings one of them to the target. */
function level(lanes: readonly Lane[], replicas: Replicas, callRows = CALL_ROWS): void {
  // Most moves bring a lane to the target, so few more are needed than there are lanes.
  for (let moves = 0; moves < 2 * lanes.length; moves++) {
    const target = commonEnd(lanes, callRows);
    const full = lastOf(lanes);
    const [piece] = full?.pieces.toSorted((a, b) => b.rows - a.rows || a.batch - b.batch) ?? [];
    if (!full || piece === undefined) return;
    const light = lanes[earliest(replicas(piece), lanes, 0)]!;
    const tooMany = (endOf(full) - target) / full.pace;
    const room = (target - endOf(light)) / light.pace - callRows;
    const wanted = Math.min(Math.max(Math.floor(Math.min(tooMany, room)), MIN_PIECE), piece.rows - MIN_PIECE);
    const whole = ROW_TILE * Math.ceil((piece.rows - wanted) / ROW_TILE);
    const kept = piece.rows - whole < MIN_PIECE ? whole - ROW_TILE : whole;
    const rows = piece.rows - kept;
    const worthwhile = (light.cost + callRows + rows) * light.pace <= (full.cost - rows) * full.pace;
    if (!worthwhile || rows < MIN_PIECE) return;
    const { batch, start } = take(full, piece);
    give(full, { batch, start, rows: kept, cost: pieceCost(kept, callRows) });
    give(light, { batch, start: start + kept, rows, cost: pieceCost(rows, callRows) });
  }
}

/**
 * When the lanes end if they end together: with as many rows each as they are fast, and the calls that filling the light
 * ones adds. Lanes that end later with what they have from other calls do not count.
 */
function commonEnd(lanes: readonly Lane[], callRows: number): number {
  const rate = lanes.reduce((sum, { pace }) => sum + 1 / pace, 0);
  const together = lanes.reduce((sum, { cost }) => sum + cost, 0) / rate;
  const counted = lanes.filter((lane) => endOf(lane) <= together * ROUNDING || lane.pieces.length > 0);
  if (counted.length < lanes.length) return commonEnd(counted, callRows);
  const light = lanes.filter(({ cost, pace }) => (cost + callRows + MIN_PIECE) * pace <= together).length;
  return together + (light * callRows) / rate;
}

/** The candidate that ends first with `cost` more; the first of those that do. */
function earliest(candidates: readonly number[], lanes: readonly Lane[], cost: number): number {
  let first = candidates[0]!;
  let end = Number.POSITIVE_INFINITY;
  for (const candidate of candidates) {
    const lane = lanes[candidate]!;
    const own = (lane.cost + cost) * lane.pace;
    if (own < end) [first, end] = [candidate, own];
  }
  return first;
}
