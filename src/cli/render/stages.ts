/** Milliseconds by stage -> one line, in the order of the token path, with the share of each. */
export function drawStages(times: Readonly<Record<string, number>>): string {
  const order = ['trunkMs', 'gateMs', 'routeMs', 'dispatchMs', 'transportMs', 'computeMs', 'combineMs'];
  const known = order.filter((stage) => times[stage] !== undefined);
  const total = known.reduce((sum, stage) => sum + times[stage]!, 0);
  const parts = known.map((stage) => {
    const ms = times[stage]!;
    const share = total === 0 ? 0 : (100 * ms) / total;
    return `${stage.slice(0, -2)} ${ms.toFixed(1)} (${share.toFixed(0)} %)`;
  });
  return `ms by stage: ${parts.join(', ')}`;
}
