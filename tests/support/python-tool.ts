import { execFileSync } from 'node:child_process';
import { join } from 'node:path';

/** The `bin` folder of a Python program's environment, or why it cannot be had here. */
export function pythonTool(name: 'triton' | 'schemathesis'): { bin?: string; missing?: string } {
  try {
    const script = join(import.meta.dirname, 'python-tool.sh');
    const folder = execFileSync(script, [name], { encoding: 'utf8', stdio: 'pipe', timeout: 300_000 });
    return { bin: join(folder.trim(), 'bin') };
  } catch (error) {
    const { stderr, message } = error as Error & { stderr?: string };
    return { missing: `${name} cannot be had: ${stderr?.trim().split('\n').at(-1) || message}` };
  }
}
