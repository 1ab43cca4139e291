/** The answers of the server that the dashboard reads: see docs/http.md. */
export const WINDOWS = ['1s', '10s', '60s', '300s'] as const;
export type WindowName = (typeof WINDOWS)[number] | 'total';

export type DropCounts = Readonly<Record<string, number>>;

export interface LoadReport {
  /** [E] */
  readonly load: readonly number[];
  readonly kept: readonly number[];
  readonly dropped: DropCounts;
  readonly dropRate: number;
  readonly losses: Readonly<Record<string, number | null>>;
  readonly imbalance: Readonly<Record<string, number | null>>;
}

export interface WindowReport extends LoadReport {
  readonly calls: number;
  readonly tokens: number;
}

export interface LayerReport {
  readonly layer: number;
  readonly name: string;
  readonly experts: number;
  readonly choices: number;
  readonly windows: Readonly<Record<(typeof WINDOWS)[number], WindowReport>>;
  readonly total: WindowReport;
}

export interface RoutingReport {
  readonly model: string;
  readonly at: number;
  readonly layers: readonly LayerReport[];
  readonly presets?: readonly string[];
}

export interface LaneReport {
  readonly lane: number;
  readonly device: string;
  readonly provider: string;
  readonly state: string;
  readonly experts: readonly number[];
  readonly queue: number;
  readonly calls: number;
  readonly batches: number;
  readonly rows: number;
  readonly computeMs?: number;
  readonly restarts: number;
  readonly process?: {
    readonly pid?: number;
    readonly rssBytes?: number;
    readonly computeMs?: number;
    readonly circuit?: string;
    readonly lastDeath?: string;
  };
}

export interface StatusReport {
  readonly version: string;
  readonly model: string;
  readonly startedAt: number;
  readonly state: string;
  readonly admission: {
    readonly running: number;
    readonly waiting: number;
    readonly runningLimit: number;
    readonly queueLimit: number;
  };
  readonly engine: {
    readonly running: number;
    readonly steps: number;
    readonly rows: number;
    readonly cache?: { readonly block: number; readonly used: number; readonly limit: number };
    readonly stageMs?: StageTimes;
  };
  readonly memory: { readonly rssBytes: number };
  readonly lanes: readonly LaneReport[];
}

/** Milliseconds by stage, in keys such as `gateMs`. */
export type StageTimes = Readonly<Record<string, number>>;

export interface TraceRequest {
  readonly text: string;
  readonly max_tokens?: number;
  readonly temperature?: number;
  readonly router?: RouterSetting;
}

export interface RouterSetting {
  readonly preset?: string;
  readonly k?: number;
  readonly capacity_factor?: number | 'none';
}

export interface TraceToken {
  readonly id: number;
  readonly text: string;
  readonly logprob: number | null;
}

/** [tokens][layers][k] */
export type PerChoice<T> = readonly (readonly (readonly T[])[])[];

export interface WaterfallStep {
  readonly fromMs: number;
  readonly toMs: number;
  readonly rows: number;
  readonly batchRows: number;
  readonly layers: readonly {
    readonly layer: number;
    readonly fromMs: number;
    readonly stages: StageTimes;
  }[];
}

export interface Trace {
  readonly model: string;
  readonly router: RouterSetting & { readonly causal: boolean };
  readonly tokens: readonly TraceToken[];
  readonly prompt_tokens: number;
  readonly bits_per_byte: number | null;
  readonly experts: PerChoice<number>;
  readonly weights: PerChoice<number>;
  readonly scores: PerChoice<number>;
  readonly drops: PerChoice<string | null>;
  readonly layers: readonly (LoadReport & {
    readonly layer: number;
    readonly name: string;
    readonly experts: number;
  })[];
  readonly waterfall: { readonly totalMs: number; readonly steps: readonly WaterfallStep[] };
}
