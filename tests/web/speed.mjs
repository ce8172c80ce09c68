// What the page costs on a frame of 61 megapixels: opening, tiles, panning, previews, the sky.
// Usage: node speed.mjs LIMPID PAGE_BUILD CHROMIUM [FOLDER, kept for the next time]
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, writeSync } from 'node:fs';
import { loadavg } from 'node:os';
import { join, resolve } from 'node:path';

import { Browser, floatsOf, set } from './browser.mjs';
import { Checks, limpid, pause, serve, workFolder } from './serving.mjs';

const [program, pageBuild, chromium, kept] = process.argv.slice(2).map((word) => resolve(word));
const folder = kept ?? join(workFolder(), 'frames');
mkdirSync(folder, { recursive: true });
/// 36 times the same sky: what it costs is the same, and simulating it would take minutes.
function mosaic(path, times) {
  const piece = join(folder, 'piece.fits'), [width, height] = [1596, 1064];
  limpid(program, ['simulate', '--width', width, '--height', height, '--star-count', 1700, '-o', piece].map(String));
  const pixels = floatsOf(readFileSync(piece));
  const cards = [['SIMPLE', 'T'], ['BITPIX', -32], ['NAXIS', 3], ['NAXIS1', times * width], ['NAXIS2', times * height], ['NAXIS3', 3]]
    .map(([key, value]) => `${key.padEnd(8)}= ${String(value).padStart(20)}`.padEnd(80));
  const file = openSync(path, 'w');
  writeSync(file, [...cards, 'END'].join('').padEnd(2880));
  const bytes = Buffer.from(pixels.buffer, pixels.byteOffset);
  for (let c = 0; c < 3; ++c) {
    for (let row = 0; row < times * height; ++row) {
      const start = 4 * width * (c * height + (row % height)), line = bytes.subarray(start, start + 4 * width);
      writeSync(file, Buffer.concat(Array(times).fill(line)));
    }
  }
  const written = 4 * 3 * times * times * width * height;
  writeSync(file, Buffer.alloc((2880 - (written % 2880)) % 2880));
  closeSync(file);
}
if (!existsSync(join(folder, 'float.fits'))) mosaic(join(folder, 'float.fits'), 6);
if (!existsSync(join(folder, 'integer.fits')))
  limpid(program, ['convert', join(folder, 'float.fits'), join(folder, 'integer.fits'), '--depth', 'u16']);

const tell = (what, seconds, more = '') => console.log(`${what.padEnd(52)} ${seconds.toFixed(2)} s${more && `  ${more}`}`);
/// Seconds that all threads of the server have worked: what is left of a busy machine's noise.
const worked = () => {
  const fields = readFileSync(`/proc/${server.process.pid}/stat`, 'utf8').split(') ')[1].split(' ');
  return (Number(fields[11]) + Number(fields[12])) / 100;
};
const busy = (before) => `processors ${(worked() - before).toFixed(2)} s`;
const time = async (body) => {
  const start = performance.now(), before = worked();
  const value = await body();
  return [(performance.now() - start) / 1000, value, busy(before)];
};
const median = (values) => [...values].sort((a, b) => a - b)[values.length >> 1];
const load = () => console.log(`load ${loadavg().map((x) => x.toFixed(1)).join(' ')}`);

const server = await serve(program, folder);
const browser = await Browser.start(pageBuild, chromium, server.url, join(folder, 'pictures'), new Checks());
const { api } = browser;
load();
for (const name of ['integer.fits', 'float.fits', 'integer.fits', 'float.fits']) {
  const start = performance.now();
  const [seconds, state, processors] = await time(() => api('/api/open', { name }));
  tell(`${name}, ${(state.frame.width * state.frame.height / 1e6).toFixed(1)} megapixels, is seen in`, seconds, processors);
  while ((await api('/api/state')).frame.loading) await pause(10);
  tell('and read in', (performance.now() - start) / 1000);
}
const { id, levels } = (await api('/api/state')).frame;
const tiles = [];
for (let i = 0; i < 24; ++i) {
  const url = new URL(`/api/picture.png?layer=${id}&level=${i % 3}&x=${512 * (i % 4)}&y=${512 * (i % 3)}&w=512&h=512&sky=0.2${i}`, server.url);
  tiles.push((await time(async () => (await fetch(url)).arrayBuffer()))[0]);
}
tell('a tile of 512 x 512 px', median(tiles), `worst ${Math.max(...tiles).toFixed(2)} s`);

// ---- the page: its own previews are off but where they are measured ----

await browser.context.addInitScript(() => localStorage.setItem('limpid', JSON.stringify({ live: false, skyLive: false })));
const page = await browser.visit();
await page.waitForSelector('#facts:not(:empty)');
await pause(3000);

/// Intervals between frames of the screen while the picture is dragged to and fro, in ms.
async function panned(seconds) {
  await page.evaluate(() => {
    window.intervals = [];
    let last = performance.now();
    const next = (now) => {
      if (!window.intervals) return;
      window.intervals.push(now - last);
      last = now;
      requestAnimationFrame(next);
    };
    requestAnimationFrame(next);
  });
  await page.mouse.move(480, 420);
  await page.mouse.down();
  const end = Date.now() + 1000 * seconds;
  for (let i = 0; Date.now() < end; ++i) {
    await page.mouse.move(480 + 380 * Math.sin(i / 25), 420 + 260 * Math.sin(i / 40));
    await pause(8);
  }
  await page.mouse.up();
  return page.evaluate(() => { const own = window.intervals.slice(5); window.intervals = null; return own; });
}
for (const [what, button, wheel] of [['whole frame', '#fit', -2], ['1:1', '#full', 0]]) {
  await page.click(button);
  await pause(1500);
  if (wheel) await page.mouse.move(480, 420).then(() => page.mouse.wheel(0, 120 * wheel));
  await pause(1500);
  const intervals = await panned(6);
  const sorted = [...intervals].sort((a, b) => a - b);
  const share = intervals.filter((ms) => ms <= 1000 / 30).length / intervals.length;
  const all = intervals.reduce((sum, ms) => sum + ms, 0);
  console.log(`panning, ${what}: ${(1000 * intervals.length / all).toFixed(0)} frames/s; interval ${sorted[sorted.length >> 1].toFixed(0)} ms, 95 % within ${sorted[Math.floor(0.95 * sorted.length)].toFixed(0)} ms, worst ${sorted.at(-1).toFixed(0)} ms; ${(100 * share).toFixed(0)} % at 30 frames/s or better`);
}

/// From an action until the page shows a rough and an exact preview.
async function previewed(what, action) {
  const panel = page.locator('#panel-sharpen');
  const answers = [];
  const listen = async (response) => {
    if (!response.url().includes('/api/preview') || !response.ok()) return;
    const answer = await response.json();
    answers.push([(performance.now() - start) / 1000, answer, busy(before)]);
  };
  page.on('response', listen);
  const old = await panel.getAttribute('data-preview');
  const start = performance.now(), before = worked();
  await action();
  while ((await panel.getAttribute('data-preview')) === old) {
    await pause(20);
    if (performance.now() - start < 180000) continue;
    console.log(`${what}: none within three minutes; ${await panel.locator('.status').innerText()}`);
    break;
  }
  // the page may have shown an answer before this program has read it
  for (let i = 0; i < 100 && !answers.some(([, answer]) => !answer.rough); ++i) await pause(20);
  for (const [seconds, answer, processors] of answers)
    tell(`${what}, ${answer.region.slice(2).join(' x ')} px${answer.rough ? ', rough' : ''}`, seconds, `${processors} in all`);
  page.off('response', listen);
  await pause(500);
}
await previewed('first preview', () => page.locator('label:has(#live)').click());
for (const value of [0.4, 0.5, 0.35])
  await previewed('slider moved', () => set(page, 'sharpen-stars', value));
await previewed('the other slider moved', () => set(page, 'sharpen-nonstellar', 0.5));
await previewed('and back, tried before', () => set(page, 'sharpen-nonstellar', 0.9));
await page.locator('label:has(#live)').click();

for (const points of [32, 64]) {
  const [seconds, , processors] = await time(() => api('/api/fit', { options: points === 32 ? {} : { 'control-points': points } }));
  tell(`the sky, ${points} control points`, seconds, processors);
}
load();
await browser.close();
server.process.kill('SIGINT');
await server.ended;
process.exit();
