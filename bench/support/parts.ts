/** The parts of a bench that `--only a,b` names; all of them where it is left out. */
export function partsOf<P extends string>(only: string | undefined, parts: readonly P[]): P[] {
  return (only ?? parts.join(',')).split(',').map((name) => {
    const part = parts.find((known) => known === name);
    if (!part) throw new Error(`--only: expected some of ${parts.join(',')}, got ${name}`);
    return part;
  });
}
