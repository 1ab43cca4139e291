export interface CompletionAsk {
  readonly prompt: string;
  readonly tokens: number;
  readonly stream: boolean;
}

/** The body of an ask for exactly so many tokens, the same ones each time. */
export function completionBody({ prompt, tokens, stream }: CompletionAsk): string {
  return JSON.stringify({ prompt, max_tokens: tokens, temperature: 0, seed: 0, ignore_eos: true, stream });
}

interface Completion {
  readonly choices: readonly { readonly text: string }[];
}

export function wholeText(body: string): string {
  return (JSON.parse(body) as Completion).choices[0]!.text;
}

/** The text of an answer that came as server-sent events. */
export function streamedText(body: string): string {
  const events = body.split('\n\n').map((event) => event.slice('data: '.length));
  const end = events.indexOf('[DONE]');
  if (end < 0) throw new Error(`expected a stream with an end, got ${body.slice(-200)}`);
  return events
    .slice(0, end)
    .map((event) => wholeText(event))
    .join('');
}
