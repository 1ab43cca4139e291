import { readFileSync } from 'node:fs';
import type { Residency } from './backend.js';

/*
 * Packed weights lie in memory of the C library's allocator, in pages of 4 KiB. At few rows an expert does little more
 * than read its weights once, and finding where each page lies then takes up to half of the time. Of glibc's variables
 * `hugetlb=1` asks the kernel for pages of 2 MiB, and `top_pad` has the allocator take memory in steps that hold some:
 * those of the main thread grow, those of other threads get 64 MiB at most, all of it at once. glibc reads them when a
 * process starts and never again.
 *
 * Where one of its variables is set, glibc no longer learns from which size on memory is the system's. At 128 KiB, where
 * it begins, every output and every hidden activation of a larger batch is new memory then, zeroed page by page. In an
 * expert process, whose sessions keep no memory of their own, two more variables say what it would have learnt.
 */

const THP = '/sys/kernel/mm/transparent_hugepage/enabled';

/** By who opens the experts: the main thread of an expert process, or several threads of any other. */
const BYTES = {
  main: { top_pad: 2 * 2 ** 20, mmap_threshold: 32 * 2 ** 20, trim_threshold: 64 * 2 ** 20 },
  threads: { top_pad: 64 * 2 ** 20 },
} as const;

type Opens = keyof typeof BYTES;

/** The first of ours. Where glibc has read it, `process.env` may show no more of them: it ends the text at a colon. */
const HUGE = 'glibc.malloc.hugetlb=1';

/**
 * What the environment of a process needs to have its weights in huge pages; nothing where the kernel has none to give,
 * or where `environment` says how to allocate and that is not from here.
 */
export function hugePages(
  opens: Opens,
  { GLIBC_TUNABLES: given }: NodeJS.ProcessEnv = process.env,
): { GLIBC_TUNABLES?: string } {
  return isOurs(given) && kernelHasSome() ? { GLIBC_TUNABLES: tunables(opens) } : {};
}

/**
 * The same for a child that opens experts of this residency, where an undefined variable is one that it must not inherit.
 * Mapped weights are pages of their files: there huge pages only make real what sessions set aside and never touch, up
 * to 2 MiB each.
 */
export function pagesFor(
  residency: Residency,
  opens: Opens,
  environment: NodeJS.ProcessEnv = process.env,
): { GLIBC_TUNABLES?: string | undefined } {
  if (residency === 'packed') return hugePages(opens, environment);
  return isOurs(environment.GLIBC_TUNABLES) ? { GLIBC_TUNABLES: undefined } : {};
}

function isOurs(given: string | undefined): boolean {
  return [undefined, HUGE, tunables('main'), tunables('threads')].includes(given);
}

function tunables(opens: Opens): string {
  const variables = Object.entries(BYTES[opens]).map(([name, count]) => `glibc.malloc.${name}=${count}`);
  return [HUGE, ...variables].join(':');
}

/** Whether this process was started so. */
export function asksForHugePages({ GLIBC_TUNABLES = '' }: NodeJS.ProcessEnv = process.env): boolean {
  return /(^|:)glibc\.malloc\.hugetlb=[12]/.test(GLIBC_TUNABLES) && kernelHasSome();
}

function kernelHasSome(): boolean {
  return process.platform === 'linux' && /\[(always|madvise)\]/.test(read(THP));
}

function read(path: string): string {
  try {
    return readFileSync(path, 'latin1');
  } catch {
    return '';
  }
}
