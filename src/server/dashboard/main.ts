import type { RoutingReport, StatusReport } from './api.js';
import { CompareView } from './compare-view.js';
import { byId, setText } from './dom.js';
import { count } from './format.js';
import { Http } from './http.js';
import { askForKey } from './key-form.js';
import { LanesView } from './lanes-view.js';
import { type Connection, Live } from './live.js';
import { PlaygroundView } from './playground-view.js';
import { RoutingView } from './routing-view.js';
import { startTabs } from './tabs.js';

const http = new Http(askForKey);
const routing = new RoutingView(byId('routing'));
const playground = new PlaygroundView(byId('playground'), http);
const compare = new CompareView(byId('compare'), http);
const lanes = new LanesView(byId('lanes'));

const live = new Live(http, {
  routing(report: RoutingReport) {
    setText(byId('model'), report.model);
    const tokens = report.layers[0]?.windows['1s'].tokens ?? 0;
    setText(byId('pulse'), `${count(tokens)} tokens/s`);
    routing.take(report);
    playground.know(report.layers);
    compare.know(report);
  },
  status(report: StatusReport) {
    lanes.take(report);
  },
  connection: showConnection,
});

let connection: Connection = { state: 'connecting' };

/** The status is read aloud, so it is written once a change; the seconds to the next try stand beside it, silent. */
function showConnection(next: Connection): void {
  connection = next;
  byId('dot').dataset.state = next.state;
  document.body.dataset.connection = next.state;
  byId('retry').hidden = next.state !== 'gone';
  const text = {
    connecting: () => 'Connecting',
    live: () => 'Live',
    gone: () => (next as { why: string }).why,
  };
  setText(byId('connection'), text[next.state]());
  countDown();
}

function countDown(): void {
  const left = connection.state === 'gone' ? Math.ceil((connection.retryAt - Date.now()) / 1_000) : 0;
  setText(byId('countdown'), left > 0 ? `Next try in ${left}\u202Fs` : '');
}

setInterval(countDown, 500);
byId('retry').addEventListener('click', () => live.retry());
startTabs((view) => {
  if (view === 'routing') routing.shown();
});
void live.run();
