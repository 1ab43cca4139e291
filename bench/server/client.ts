import { Agent, type IncomingMessage, request } from 'node:http';

export interface Ask {
  readonly path: string;
  readonly body?: string;
  readonly signal?: AbortSignal;
  /** Keeps the body of the answer; `false` where left out. */
  readonly keep?: boolean;
  /** Hears the body as it comes. */
  readonly onData?: (part: Buffer) => void;
}

export interface Answer {
  readonly status: number;
  readonly headers: IncomingMessage['headers'];
  /** Milliseconds from the ask to the first bytes of the body, and to its end. */
  readonly firstMs: number;
  readonly ms: number;
  /** The body where it was kept, else its last bytes. */
  readonly body: Buffer;
}

/** Asks a server over connections that it keeps. It reads bodies and no more: what it computes the server cannot. */
export class Client {
  readonly #agent = new Agent({ keepAlive: true, maxSockets: Number.POSITIVE_INFINITY });
  readonly #url: URL;

  constructor(url: string) {
    this.#url = new URL(url);
  }

  /** GET, or POST where there is a body. Rejects where the connection fails or the signal aborts. */
  ask({ path, body, signal, keep = false, onData }: Ask): Promise<Answer> {
    const { hostname, port } = this.#url;
    const method = body === undefined ? 'GET' : 'POST';
    const headers =
      body === undefined
        ? {}
        : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) };
    return new Promise((resolve, reject) => {
      const begin = performance.now();
      const options = {
        hostname,
        port,
        path,
        method,
        headers,
        agent: this.#agent,
        ...(signal && { signal }),
      };
      const asked = request(options, (answer) => {
        const parts: Buffer[] = [];
        let firstMs = 0;
        answer.on('data', (part: Buffer) => {
          firstMs ||= performance.now() - begin;
          onData?.(part);
          if (!keep) parts.length = 0;
          parts.push(part);
        });
        answer.on('error', reject);
        answer.on('end', () => {
          const { statusCode: status = 0, headers } = answer;
          resolve({ status, headers, firstMs, ms: performance.now() - begin, body: Buffer.concat(parts) });
        });
      });
      asked.on('error', reject);
      asked.end(body);
    });
  }

  /** Sends half of a body and leaves. */
  leaveInBody(path: string, body: string): Promise<void> {
    const { hostname, port } = this.#url;
    const headers = { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) };
    return new Promise((resolve) => {
      const asked = request({ hostname, port, path, method: 'POST', headers, agent: this.#agent });
      asked.on('error', () => {});
      asked.on('close', resolve);
      asked.write(body.slice(0, body.length / 2), () => asked.destroy());
    });
  }

  close(): void {
    this.#agent.destroy();
  }
}
