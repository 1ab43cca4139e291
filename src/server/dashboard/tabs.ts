import { byId } from './dom.js';
import { Roving } from './roving.js';

/** The views of the page. The address keeps the chosen one (`/#lanes`); arrow keys choose as well. */
export function startTabs(shown: (view: string) => void): void {
  const tabs = [...document.querySelectorAll<HTMLElement>('[role=tab]')];
  const viewOf = (tab: HTMLElement) => tab.getAttribute('aria-controls')!;
  const choose = (view: string, remember: boolean) => {
    for (const tab of tabs) {
      const chosen = viewOf(tab) === view;
      tab.setAttribute('aria-selected', String(chosen));
      byId(viewOf(tab)).hidden = !chosen;
      if (chosen) roving.reset(tab);
    }
    if (remember) history.replaceState(null, '', `#${view}`);
    shown(view);
  };
  const roving = new Roving(tabs[0]!.parentElement!, {
    items: () => tabs,
    moved: (tab) => choose(viewOf(tab), true),
  });
  for (const tab of tabs) tab.addEventListener('click', () => choose(viewOf(tab), true));
  const fromAddress = () => {
    const view = location.hash.slice(1);
    if (tabs.some((tab) => viewOf(tab) === view)) choose(view, false);
  };
  addEventListener('hashchange', fromAddress);
  choose(viewOf(tabs[0]!), false);
  fromAddress();
}
