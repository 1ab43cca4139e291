/** It comes without types. Numbers stay text, and a histogram with labels loses them with its sum and count. */
declare module 'parse-prometheus-text-format' {
  export interface Series {
    readonly labels?: Readonly<Record<string, string>>;
    readonly value?: string;
    readonly buckets?: Readonly<Record<string, string>>;
    readonly sum?: string;
    readonly count?: string;
  }

  export interface Family {
    readonly name: string;
    readonly help: string;
    readonly type: string;
    readonly metrics: readonly Series[];
  }

  export default function parsePrometheusTextFormat(text: string): Family[];
}
