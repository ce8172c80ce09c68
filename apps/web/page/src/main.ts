// Puts the page together: the state of the server comes in, the parts show it.
import 'uplot/dist/uPlot.min.css';

import { get, type State } from './api';
import { CombinePanel } from './combine';
import { byId, complain, h, say } from './dom';
import { Files } from './files';
import { LookPanel } from './look';
import { saveDialog } from './save';
import { SharpenPanel } from './sharpen';
import { SkyPanel } from './sky';
import { StarsPanel } from './stars';
import { remember, ui } from './store';
import { TrustPanel } from './trust';
import { Viewer } from './viewer';

interface Panel { element: HTMLElement; update(state: State): void; show?(shown: boolean): void; }

let state: State | null = null;
const viewer = new Viewer();
const sharpen = new SharpenPanel(viewer);
const sky = new SkyPanel(viewer, (what) => {
  const name = sky.outputName().replace(/(-flat)?(\.[a-z]+)$/, what === 'points' ? '-points.json' : '-sky.fits');
  void saveDialog(name, what, () => sky.spelled()).catch(complain);
});
const combine = new CombinePanel();
const stars = new StarsPanel(viewer);
const trust = new TrustPanel(viewer, () => {
  void saveDialog(sharpen.outputName().replace(/(\.[a-z]+)$/, '-trust.fits'), 'trust', () => {}).catch(complain);
});
// A further panel is a further line.
const panels: [string, string, Panel][] = [['sharpen', 'Sharpen', sharpen], ['background', 'Background', sky],
  ['frames', 'Frames', combine], ['stars', 'Stars', stars], ['trust', 'Trust', trust]];
const look = new LookPanel(() => void showLayers());
const files = new Files(update);

function buildTabs(): void {
  const tabs = byId('tabs'), scroller = byId('panels'), scrolled = new Map<string, number>();
  const choose = (name: string, focus: boolean) => {
    scrolled.set(ui.tab, scroller.scrollTop);
    ui.tab = name;
    if (name === 'sharpen' || name === 'background') work(name);
    remember();
    for (const [id, , panel] of panels) {
      const tab = byId(`tab-${id}`), on = id === name;
      tab.setAttribute('aria-selected', String(on));
      tab.tabIndex = on ? 0 : -1;
      if (on && focus) tab.focus();
      panel.element.hidden = !on;
      panel.show?.(on);
    }
    scroller.scrollTop = scrolled.get(name) ?? 0;
  };
  for (const [id, title, panel] of panels) {
    tabs.append(h('button', { type: 'button', role: 'tab', id: `tab-${id}`, 'aria-controls': `panel-${id}`, click: () => choose(id, false) }, title));
    byId('panels').append(panel.element);
  }
  tabs.addEventListener('keydown', (event) => {
    const step = event.key === 'ArrowRight' ? 1 : event.key === 'ArrowLeft' ? -1 : 0;
    if (step === 0) return;
    const at = panels.findIndex(([id]) => id === ui.tab);
    const next = panels[(at + step + panels.length) % panels.length];
    if (next) choose(next[0], true);
  });
  choose(panels.some(([id]) => id === ui.tab) ? ui.tab : 'sharpen', false);
}

/// Two panels have previews and results; the picture is of the one that was used last.
function work(name: 'sharpen' | 'background'): void {
  if (ui.work === name) return;
  ui.work = name;
  (name === 'sharpen' ? sky : sharpen).work(false);
  (name === 'sharpen' ? sharpen : sky).work(true);
  void showLayers();
}

async function showLayers(): Promise<void> {
  const frame = state?.frame;
  if (!frame || viewer.frame?.id !== frame.id) return;
  const whole = { x: 0, y: 0, width: frame.width, height: frame.height };
  await viewer.show('before', frame.id, whole, frame.levels, ui.look, false, 1);
  const result = state?.result;
  if (result && (result.command === 'background') === (ui.work === 'background'))
    await viewer.show('after', result.id, whole, frame.levels, ui.look, true, 1);
  else viewer.hide('after');
  await sharpen.redraw();
  await sky.redraw();
}

let lastError = -1;
const told = new Set<string>();
function update(next: State): void {
  if (state && next.version < state.version && next.frame?.id === state.frame?.id) return;
  const before = state;
  state = next;
  const frame = next.frame;
  if (frame?.id !== before?.frame?.id) {
    told.clear();
    // what could not be opened is not what is seen now
    if (frame) for (const old of document.querySelectorAll('#messages .error')) old.remove();
    byId('file').textContent = frame ? frame.name : 'Open…';
    byId('facts').textContent = frame
      ? `${frame.width} × ${frame.height}${frame.channels === 1 ? ' mono' : ''}${frame.pixel_scale_arcsec ? ` · ${frame.pixel_scale_arcsec.toFixed(2)}″/px` : ''}` : '';
    document.title = frame ? `${frame.name} · limpid` : 'limpid';
    byId('welcome').hidden = frame !== null;
    const old = before?.frame;
    const settled = frame && old?.loading && old.name === frame.name && viewer.frame?.id === old.id;
    if (frame) void (settled ? viewer.settle(frame, ui.look) : viewer.open(frame, ui.look)).then(showLayers).then(() => { sharpen.look(); sky.look(); viewer.paint(); });
    else viewer.close();
    // what a panel says of a frame stands at its top
    if (!settled) byId('panels').scrollTop = 0;
    look.show(frame?.id ?? null, frame?.channels === 3);
    for (const note of frame?.notes ?? []) say(note);
    if (!frame) welcome();
  } else if (next.result?.id !== before?.result?.id) {
    void showLayers();
  }
  for (const note of next.notes) {
    if (!told.has(note)) say(note);
    told.add(note);
  }
  if (next.error && next.error.id !== lastError) {
    if (before) say(next.error.text, 'error');
    lastError = next.error.id;
  }
  byId('busy').hidden = !frame?.loading;
  byId<HTMLButtonElement>('save').disabled = !next.result;
  for (const [, , panel] of panels) panel.update(next);
}

function welcome(): void {
  const list = h('div', { class: 'list' });
  byId('welcome').replaceChildren(h('h1', {}, 'limpid'), h('p', { class: 'muted' }, 'Drop a frame here, or choose one.'), list);
  void files.fill(list, () => {});
}

function listen(): void {
  let source: EventSource | null = null, lost = false;
  const connect = () => {
    source?.close();
    source = new EventSource('/api/events');
    source.onmessage = (event) => {
      if (lost) say('limpid answers again');
      lost = false;
      update(JSON.parse(event.data));
    };
    source.onerror = () => {
      if (!lost && document.visibilityState === 'visible') say('limpid does not answer; is `limpid serve` still running?', 'error');
      lost = true;
      if (source?.readyState === EventSource.CLOSED) window.setTimeout(connect, 2000);
    };
  };
  // a page that nobody sees needs no connection; a browser has six for one address
  document.addEventListener('visibilitychange', () => {
    if (document.visibilityState === 'visible') connect();
    else source?.close();
  });
  connect();
}

function toggleLoupe(): void {
  ui.loupe = !ui.loupe;
  remember();
  byId('loupe-toggle').setAttribute('aria-pressed', String(ui.loupe));
  if (!ui.loupe) byId('loupe').hidden = true;
}

function save(): void {
  const result = state?.result;
  if (!result) return;
  const panel = result.command === 'background' ? sky : sharpen;
  void saveDialog(panel.outputName(), 'result', (name) => {
    if (panel === sky) ui.flatName = name;
    else ui.saveName = name;
    remember();
    sharpen.spelled();
    sky.spelled();
  }, (name) => void files.open(name)).catch(complain);
}

function wireTools(): void {
  byId('open').addEventListener('click', () => void files.browse());
  byId('save').addEventListener('click', save);
  byId('fit').addEventListener('click', () => viewer.fit());
  byId('full').addEventListener('click', () => viewer.full());
  byId('loupe-toggle').addEventListener('click', toggleLoupe);
  byId('loupe-toggle').setAttribute('aria-pressed', String(ui.loupe));
  const hold = byId('hold');
  hold.addEventListener('pointerdown', () => viewer.hold(true));
  for (const end of ['pointerup', 'pointerleave', 'pointercancel', 'blur']) hold.addEventListener(end, () => viewer.hold(false));
  hold.addEventListener('keydown', (event) => { if (event.key === ' ' || event.key === 'Enter') { viewer.hold(true); event.preventDefault(); } });
  hold.addEventListener('keyup', () => viewer.hold(false));
  document.addEventListener('keydown', (event) => {
    const at = event.target as HTMLElement;
    if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector('dialog[open]')) return;
    if (at.matches('input:not([type=range]):not([type=checkbox]), select, textarea')) return;
    const keys: Record<string, () => void> = {
      f: () => viewer.fit(), '1': () => viewer.full(), l: toggleLoupe, b: () => viewer.hold(true),
      o: () => void files.browse(), s: save };
    const action = keys[event.key.toLowerCase()];
    if (!action || (event.repeat && event.key !== 'b')) return;
    action();
    event.preventDefault();
  });
  document.addEventListener('keyup', (event) => { if (event.key.toLowerCase() === 'b') viewer.hold(false); });
  window.addEventListener('blur', () => viewer.hold(false));
  viewer.onMove = () => sharpen.look();
  viewer.setAfter((x, y) => (ui.work === 'background' ? sky : sharpen).after(x, y));
}

async function start(): Promise<void> {
  buildTabs();
  wireTools();
  welcome();
  try {
    await Promise.all([sharpen.build(), sky.build(), combine.build()]);
    update(await get<State>('/api/state'));
  } catch (error) {
    complain(error);
  }
  listen();
}

void start();
