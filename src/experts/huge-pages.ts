import { readFileSync } from 'node:fs';

/*
 * Packed weights lie in memory of the C library's allocator, in pages of 4 KiB. At few rows an expert does little more
 * than read its weights once, and finding where each page lies then takes up to half of the time. Of glibc's variables
 * `hugetlb=1` asks the kernel for pages of 2 MiB, and `top_pad` has the allocator take memory in steps that hold some:
 * those of the main thread grow, those of other threads get 64 MiB at most, all of it at once. Where one of its variables
 * is set, glibc no longer learns from which size on memory is the system's and how much of it is kept: at 128 KiB, where it
 * begins, every output and every hidden activation of a larger batch is new memory, zeroed page by page. The other two
 * variables say what it would have learnt. glibc reads them when a process starts and never again.
 */

const THP = '/sys/kernel/mm/transparent_hugepage/enabled';

/** For a process whose main thread opens the experts, or other threads as well. */
const TOP_PAD = { main: 2 * 2 ** 20, threads: 64 * 2 ** 20 } as const;

/** Up to which bytes memory that was freed is used again for the next, and how many of it are kept: the most that glibc learns. */
const REUSED = { mmap_threshold: 32 * 2 ** 20, trim_threshold: 64 * 2 ** 20 } as const;

type Opens = keyof typeof TOP_PAD;

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
  const ours = [undefined, HUGE, tunables('main'), tunables('threads')].includes(given);
  return ours && kernelHasSome() ? { GLIBC_TUNABLES: tunables(opens) } : {};
}

function tunables(opens: Opens): string {
  const bytes = Object.entries({ top_pad: TOP_PAD[opens], ...REUSED });
  return [HUGE, ...bytes.map(([name, count]) => `glibc.malloc.${name}=${count}`)].join(':');
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
