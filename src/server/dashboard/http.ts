const KEY_NAME = 'turnout-key';

/** An answer of the server that is an error, as it says it. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly code: string | null,
    message: string,
  ) {
    super(message);
  }
}

/** Asks the person for a key; `wrong` where the server refused the one that it got. */
export type AskForKey = (wrong: boolean) => Promise<string>;

/** Requests with the key of this tab, if there is one; where the server wants one, it is asked for and the request made again. */
export class Http {
  #asking: Promise<void> | undefined;

  constructor(readonly askForKey: AskForKey) {}

  async json<T>(path: string, init: RequestInit = {}): Promise<T> {
    return (await this.#send(path, init)).json() as Promise<T>;
  }

  async post<T>(path: string, body: unknown, signal?: AbortSignal): Promise<T> {
    const init: RequestInit = {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(body),
    };
    return this.json<T>(path, signal ? { ...init, signal } : init);
  }

  /** Server-sent events, until the server ends them. EventSource cannot send a key, so they are read here. */
  async *events(path: string, signal: AbortSignal): AsyncGenerator<{ event: string; data: string }> {
    const response = await this.#send(path, { headers: { accept: 'text/event-stream' }, signal });
    const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
    let held = '';
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      held += value.replaceAll('\r', '');
      const blocks = held.split('\n\n');
      held = blocks.pop()!;
      for (const block of blocks) yield parseEvent(block);
    }
  }

  async #send(path: string, init: RequestInit): Promise<Response> {
    for (;;) {
      const key = sessionStorage.getItem(KEY_NAME);
      const headers = { ...(init.headers as Record<string, string>) };
      if (key !== null) headers.authorization = `Bearer ${key}`;
      const response = await fetch(path, { ...init, headers, cache: 'no-store' });
      if (response.status === 401) await this.#newKey(key);
      else if (response.ok) return response;
      else throw await errorOf(response);
    }
  }

  /** All requests that are refused at once wait for one answer. */
  async #newKey(refused: string | null): Promise<void> {
    if (sessionStorage.getItem(KEY_NAME) !== refused) return;
    this.#asking ??= this.askForKey(refused !== null)
      .then((key) => sessionStorage.setItem(KEY_NAME, key))
      .finally(() => {
        this.#asking = undefined;
      });
    await this.#asking;
  }
}

function parseEvent(block: string): { event: string; data: string } {
  const fields = block.split('\n').map((line) => {
    const colon = line.indexOf(':');
    return { name: line.slice(0, colon), value: line.slice(colon + 1).replace(/^ /, '') };
  });
  const data = fields.filter(({ name }) => name === 'data').map(({ value }) => value);
  return { event: fields.find(({ name }) => name === 'event')?.value ?? 'message', data: data.join('\n') };
}

async function errorOf(response: Response): Promise<ApiError> {
  const text = await response.text();
  try {
    const { error } = JSON.parse(text) as { error: { message: string; code: string | null } };
    return new ApiError(response.status, error.code, error.message);
  } catch {
    return new ApiError(response.status, null, text.slice(0, 500) || response.statusText);
  }
}
