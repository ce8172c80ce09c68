// Background and multi-frame panels, in headless Chromium.
// Usage: node panels_test.mjs LIMPID PAGE_BUILD CHROMIUM PICTURES
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';

import { allNamed, Browser, difference, floatsOf, mean, set, weakContrast } from './browser.mjs';
import { Checks, limpid, pause, serve, shell, step, workFolder } from './serving.mjs';

const [program, pageBuild, chromium, pictures] = process.argv.slice(2).map((word) => resolve(word));
const checks = new Checks();
const work = workFolder(), folder = join(work, 'frames');
mkdirSync(join(folder, 'lights'), { recursive: true });

// stars, and the light of a town at the lower left
const [width, height] = [960, 640];
const frame = join(folder, 'slope.fits');
limpid(program, ['simulate', '--width', width, '--height', height, '--star-count', '900', '-o', frame].map(String));
const bytes = readFileSync(frame), pixels = floatsOf(bytes);
let seed = 88172645;
const random = () => { seed ^= seed << 13; seed ^= seed >>> 17; seed ^= seed << 5; return (seed >>> 0) / 2 ** 32; };
const stars = Array.from({ length: 700 }, () => ({ x: random() * width, y: random() * height, light: 0.008 / (0.004 + random()), warm: random() }));
const light = new Float32Array(3 * width * height);
for (const star of stars) {
  for (let y = Math.max(0, Math.floor(star.y) - 9); y < Math.min(height, star.y + 9); ++y) {
    for (let x = Math.max(0, Math.floor(star.x) - 9); x < Math.min(width, star.x + 9); ++x) {
      const own = star.light * (1 + ((x - star.x) ** 2 + (y - star.y) ** 2) / 9) ** -3.5;
      [0.7 + 0.6 * star.warm, 1, 1.3 - 0.6 * star.warm].forEach((share, c) => { light[(c * height + y) * width + x] += share * own; });
    }
  }
}
for (let i = 0; i < 3 * width * height; ++i) {
  const x = (i % width) / width, y = (Math.floor(i / width) % height) / height, c = Math.floor(i / width / height);
  const town = [0.05, 0.032, 0.02][c] * Math.exp(-1.6 * (x + 1 - y));
  pixels.setFloat32(4 * i, 0.04 + town + light[i] + 0.0016 * (random() + random() + random() - 1.5));
}
writeFileSync(frame, bytes);
for (const [name, fwhm, seed] of [['a', 2.8, 1], ['b', 3.3, 1], ['c', 3.9, 1], ['elsewhere', 3, 7]])
  limpid(program, ['simulate', '--width', '300', '--height', '260', '--star-count', '260', '--fwhm', fwhm, '--seed', seed, '-o', join(folder, 'lights', `${name}.fits`)].map(String));

const server = await serve(program, folder);
const browser = await Browser.start(pageBuild, chromium, server.url, pictures, checks);
const { api, seen, shoot, until } = browser;
const page = await browser.visit();

/// Waits until the sky is of the options now set.
async function fitted(action) {
  const panel = page.locator('#panel-background');
  const old = await panel.getAttribute('data-sky');
  await action();
  await until('a fitted sky', async () => {
    const now = await panel.getAttribute('data-sky');
    return now !== null && now !== old && !(await panel.getAttribute('class') ?? '').includes('rendering');
  });
  await pause(600);
}

// ---- background ----

step('background');

await page.click('#welcome .row:has-text("slope.fits")');
await until('the frame is open', async () => (await page.innerText('#file')) === 'slope.fits');
await fitted(() => page.click('#tab-background'));
checks.that('the gradient is told', /gradient of [\d.]+ × noise · \d+ % masked/.test(await page.innerText('#sky-status')), await page.innerText('#sky-status'));
checks.that('the loss is drawn', await page.locator('#sky-loss canvas').count() === 1);
await page.mouse.move(640, 300);
await shoot(page, 'background');

await page.locator('#divider').focus();
await page.keyboard.press('Home');
await page.click('#sky-show-points');
await pause(500);
const corner = async () => {
  const box = await page.locator('#viewer').boundingBox();
  const scale = Math.min(box.width / width, box.height / height);
  const [left, bottom] = [box.x + (box.width - width * scale) / 2, box.y + (box.height + height * scale) / 2];
  return { x: Math.round(left + 12), y: Math.round(bottom - 92), width: 80, height: 80 };
};
const there = await corner();
const flat = await seen(page, there);
await page.keyboard.down('b');
await until('hold shows the gradient', async () => mean(await seen(page, there)) > mean(flat) + 20);
await page.keyboard.up('b');
await until('and lets go', async () => difference(await seen(page, there), flat) < 1);
await page.click('#sky-show-model');
await until('the model is shown', async () => mean(await seen(page, there)) > mean(flat) + 20);
await page.click('#sky-show-model');
await until('and goes', async () => difference(await seen(page, there), flat) < 1);
const middle = { x: 300, y: 200, width: 400, height: 300 };
const bare = await seen(page, middle);
await page.click('#sky-show-mask');
await until('the mask is shown', async () => difference(await seen(page, middle), bare) > 1);
await page.click('#sky-show-points');
await pause(300);
await shoot(page, 'background-mask');
await page.click('#sky-show-mask');

// what is shown is what the command line makes
limpid(program, ['background', frame, '-o', join(work, 'flat.fits'), '--control-points', '16', '--mode', 'divide']);
await fitted(async () => { await set(page, 'sky-control-points', 16); await page.selectOption('#sky-mode', 'divide'); });
const made = floatsOf(readFileSync(join(work, 'flat.fits')));
let same = 0, asked = 0;
for (let i = 0; i < width * height; i += 5003) {
  const [x, y] = [i % width, Math.floor(i / width)];
  const pixel = await api(`/api/pixel?x=${x}&y=${y}`);
  for (let c = 0; c < 3; ++c, ++asked) if (pixel.sky?.[c] === made.getFloat32(4 * ((c * height + pixel.y) * width + x))) ++same;
}
checks.that('the preview has the pixels of limpid background', same === asked && asked > 300, `${same} of ${asked}`);

// ---- control points by hand ----

step('control points by hand');

await fitted(() => page.selectOption('#sky-mode', 'subtract'));
const points = page.locator('#points button');
const told = async () => (await api('/api/sky')).control_points.points;
checks.that('every control point is a button', await points.count() === 16);
checks.that('one of them is reached by the tab key', await page.locator('#points button[tabindex="0"]').count() === 1);
checks.that('nothing to take back yet', await page.isDisabled('#sky-points-reset'));
const laid = await told(), laidCorrection = (await api('/api/sky')).control_points.correction;
const far = [width - 30, 30], skyThere = async ([x, y]) => { const pixel = await api(`/api/pixel?x=${x}&y=${y}`); return pixel.before[0] - pixel.sky[0]; };
const skyBefore = await skyThere(far);
checks.that('sixteen points are too few for this sky', laidCorrection !== undefined);
/// One that lies in the picture, away from the border and from what lies over it.
const inside = laid.findIndex(({ x, y }) => x > 0.1 * width && x < 0.6 * width && y > 0.2 * height && y < 0.7 * height);
const box = await points.nth(inside).boundingBox();
const [px, py] = [box.x + box.width / 2, box.y + box.height / 2];
await fitted(async () => {
  await page.mouse.move(px, py);
  await page.mouse.down();
  await page.mouse.move(px + 20, py + 10, { steps: 4 });
  await page.mouse.move(px + 60, py + 30, { steps: 4 });
  await page.mouse.up();
});
const moved = (await api('/api/sky')).options.points;
checks.that('what the sky is beyond its spline goes along', moved.correction?.values.length === 3 && moved.removed.length === 1, JSON.stringify(moved).slice(0, 200));
const dragged = await told(), scale = (await page.locator('#viewer').boundingBox()).width / width;
const [dx, dy] = [dragged[inside].x - laid[inside].x, dragged[inside].y - laid[inside].y];
checks.that('a point goes where it is dragged', Math.abs(dx / dy - 2) < 0.1 && dx > 20 && dx < 200, `${dx}, ${dy}, ${scale}`);
checks.that('the others stay', laid.every(({ x, y }, i) => i === inside || Math.hypot(x - dragged[i].x, y - dragged[i].y) < 0.01));
{
  const kept = await skyThere(far), without = { ...moved };
  delete without.correction;
  await api('/api/fit', { options: { 'control-points': 16, points: without } });
  const bare = await skyThere(far);
  checks.that('so that far away it stays as it was', Math.abs(kept - skyBefore) < 0.5 * Math.abs(bare - skyBefore), `${skyBefore}; kept ${kept}, bare ${bare}`);
}
checks.that('it takes the sky of its new place', dragged[inside].values.some((value, c) => value !== laid[inside].values[c]));
checks.that('sliders that lay out points rest', await page.isDisabled('#sky-control-points'));
await fitted(() => page.mouse.dblclick(px - 30, py - 30));
checks.that('a double click adds one', await points.count() === 17 && (await told()).length === 17);
await fitted(() => page.click('#sky-point-add'));
checks.that('so does the button', (await told()).length === 18);
await page.locator('#points button[aria-current]').focus();
const named = await page.locator('#points button[aria-current]').getAttribute('aria-label');
checks.that('a screen reader hears which one', /Point 18 of 18 at \d+, \d+/.test(named), named);
await fitted(() => page.keyboard.press('Delete'));
checks.that('the delete key takes it away', (await told()).length === 17);
const before = await told();
await fitted(() => page.keyboard.press('Shift+ArrowLeft'));
const after = await told();
checks.that('arrows move it', before[16].x - after[16].x > 5 && Math.abs(before[16].y - after[16].y) < 0.01, `${before[16].x} to ${after[16].x}`);
await page.keyboard.press('PageUp');
checks.that('page up goes to another', await page.evaluate(() => document.activeElement.getAttribute('aria-label')?.startsWith('Point 16 ')));
await page.mouse.move(640, 300);
await shoot(page, 'background-points');

await page.locator('#panel-background .command summary').click();
await until('the command needs a file', async () => page.isVisible('#sky-need button'));
await page.click('#sky-need button');
checks.that('it has a name', await page.inputValue('#save-name') === 'slope-points.json', await page.inputValue('#save-name'));
await page.click('#save-go');
await page.waitForSelector('#saving', { state: 'hidden' });
await until('and then no more', async () => page.isHidden('#sky-need'));
await page.click('#sky-apply');
await page.waitForSelector('#sky-result:has-text("Applied ·")');
await page.reload();
await page.waitForSelector('#sky-result');
await until('points survive a reload', async () => await points.count() === 17);
checks.that('as edited ones', await page.isEnabled('#sky-points-reset') && (await page.innerText('#sky-result')).startsWith('Applied ·'));
const byHand = await api('/api/save', { name: 'hand.fits' });
checks.that('the command names the points', /--points \S*slope-points.json/.test(byHand.command), byHand.command);
renameSync(join(folder, 'hand.fits'), join(work, 'hand.fits'));
shell(program, byHand.command, work);
checks.that('and gives the same bytes', readFileSync(join(folder, 'hand.fits')).equals(readFileSync(join(work, 'hand.fits'))), byHand.command);
const five = Array(5).fill({ x: 1, y: 1 });
for (const bad of [[{ x: 1, y: 1 }], five, 'points', null, 7, {}, { points: [{ x: 1, y: 1 }] }, { points: Array(401).fill({ x: 1, y: 1 }) }, { points: Array(5).fill({ x: 1 }) }, { points: Array(5).fill({ x: 1, y: 2, values: ['a'] }) },
  { points: five, removed: 'all' }, { points: five, removed: [{ x: 1 }] }, { points: five, removed: Array(401).fill({ x: 1, y: 1 }) }, { points: five, correction: {} }, { points: five, correction: { columns: 3, rows: 3, values: [[1]] } },
  { points: five, correction: { columns: 1e9, rows: 1e9, values: [[]] } }, { points: five, correction: { columns: 3, rows: 3, values: [Array(9).fill(0), Array(9).fill(0)] } }, { points: five, correction: { columns: 3, rows: 3, values: [Array(9).fill('x')] } }])
  checks.that('points that are none are refused', (await api('/api/fit', { options: { points: bad } })).error !== undefined, JSON.stringify(bad).slice(0, 60));
await page.evaluate(() => { window.fits = 0; const own = window.fetch; window.fetch = (url, ...more) => { if (String(url).includes('/api/fit')) ++window.fits; return own(url, ...more); }; });
await page.route('**/api/fit', (route) => route.fulfill({ status: 422, contentType: 'application/json', body: '{"error": "no sky here"}' }));
await set(page, 'sky-mask-below', 0.002);
await until('what fails is told', async () => (await page.innerText('#sky-status')) === 'no sky here');
await api('/api/measure', {});
await pause(1500);
checks.that('and not tried again and again', await page.evaluate(() => window.fits) === 1);
await page.unroute('**/api/fit');
await fitted(() => set(page, 'sky-mask-below', 0.001));
await fitted(() => page.click('#sky-points-reset'));
checks.that('and they can be laid out again', (await told()).length === 16 && await page.isEnabled('#sky-control-points'));
await fitted(() => page.selectOption('#sky-mode', 'divide'));

// ---- apply, save, and the command that does the same ----

step('apply and save');

await page.locator('label:has(#sky-dither)').click();
await page.click('#sky-apply');
await page.waitForSelector('#sky-result:has-text("Applied ·")');  // that of before says that it has other settings
checks.that('the result is of these settings', (await page.innerText('#sky-result')).startsWith('Applied ·'), await page.innerText('#sky-result'));
await page.reload();
await page.waitForSelector('#sky-result');
checks.that('settings and result survive a reload', await page.inputValue('#sky-control-points') === '16' && (await api('/api/state')).result.command === 'background');
await page.click('#save');
checks.that('the name says what it is', await page.inputValue('#save-name') === 'slope-flat.fits');
await page.selectOption('#save-format', '.xisf');
await page.selectOption('#save-depth', 'u16');
await page.click('#save-go');
await page.waitForSelector('#saving', { state: 'hidden' });
await page.click('#panel-background .command summary');
await until('the command follows', async () => /--depth u16/.test(await page.innerText('#sky-command')));
const command = await page.innerText('#sky-command');
const saved = join(folder, 'slope-flat.xisf');
renameSync(saved, join(work, 'saved.xisf'));
shell(program, command, work);
checks.that('the command gives the same bytes', readFileSync(saved).equals(readFileSync(join(work, 'saved.xisf'))), command);
for (const [what, name] of [['model', 'sky.fits'], ['points', 'sky.json']]) {
  const answer = await api('/api/save', { name, what });
  renameSync(join(folder, name), join(work, name));
  shell(program, `${answer.command} --overwrite`, work);
  const [own, other] = [readFileSync(join(folder, name)), readFileSync(join(work, name))];
  // the headers name the commands, which differ by --overwrite
  checks.that(`so does that of the ${what}`, own.subarray(what === 'model' ? -3 * width * height * 4 : 0).equals(other.subarray(what === 'model' ? -3 * width * height * 4 : 0)), answer.command);
}
checks.that('control points need their own ending', (await api('/api/save', { name: 'sky.fits', what: 'points', overwrite: true })).error?.includes('.json'));
await page.click('#save');
await page.locator('label:has(#save-overwrite)').click();
await page.click('#save-go');
await page.click('.message .act');
await until('what was saved can be opened', async () => (await page.innerText('#file')) === 'slope-flat.xisf');

// ---- many frames ----

step('many frames');

await page.click('#tab-frames');
await page.click('#panel-frames .row:has-text("lights/")');
await page.waitForSelector('#panel-frames label.row:has-text("a.fits")');
checks.that('one frame is not enough', await page.isDisabled('#mf-apply'));
await page.click('#mf-all');
checks.that('the button counts', (await page.innerText('#mf-apply')) === 'Combine 4 frames', await page.innerText('#mf-apply'));
await set(page, 'mf-iterations', 5);
await page.click('#mf-apply');
await page.waitForSelector('#mf-progress, #mf-left-out');
await until('the result is opened', async () => (await page.innerText('#file')) === 'lights/combined.fits', 120);
await page.waitForSelector('#mf-left-out');
checks.that('a frame of another field is left out and named', /elsewhere\.fits[\s\S]*\w{4,}/.test(await page.innerText('#mf-left-out')), await page.innerText('#mf-left-out'));
checks.that('the others are listed with their width', await page.locator('#mf-frames tbody tr').count() === 3);
await until('the convergence is drawn', async () => (await page.locator('#mf-curve canvas').count()) === 1);
await pause(800);
await page.locator('#mf-curve').scrollIntoViewIfNeeded();
await shoot(page, 'frames');
await page.click('#panel-frames .command summary');
await until('the command is written out', async () => /--iterations 5/.test(await page.innerText('#mf-command')));
const line = await page.innerText('#mf-command');
const combined = join(folder, 'lights', 'combined.fits');
renameSync(combined, join(work, 'combined.fits'));
shell(program, line, work);
checks.that('the command of many frames gives the same bytes', readFileSync(combined).equals(readFileSync(join(work, 'combined.fits'))), line);
await page.click('#mf-apply');
await page.waitForSelector('.message.error');
checks.that('an existing file is not replaced', /exists/.test(await page.locator('.message.error').first().innerText()));

await page.fill('#mf-name', 'lights/never.fits');
await set(page, 'mf-iterations', 100);
// or it is over before the page is there again
await set(page, 'mf-min-iterations', 50);
await page.selectOption('#mf-super-resolution', '4');
await page.click('#mf-apply');
await page.waitForSelector('#mf-cancel');
await page.reload();
await page.waitForSelector('#mf-cancel');
await page.click('#mf-cancel');
await page.waitForSelector('#mf-apply:not([disabled])');
checks.that('a cancelled run leaves no file', !existsSync(join(folder, 'lights', 'never.fits')));
checks.that('and the frame stays', (await api('/api/state')).frame?.name === 'lights/combined.fits');

// ---- a phone, a screen reader ----

step('a phone, a screen reader');

for (const tab of ['background', 'frames']) {
  await page.setViewportSize({ width: 1280, height: 800 });
  await page.click(`#tab-${tab}`);
  await page.locator(`#panel-${tab}`).evaluate((panel) => panel.querySelectorAll('details').forEach((details) => { details.open = true; }));
  const nameless = await allNamed(page), weak = await weakContrast(page);
  checks.that(`every control of ${tab} has a name`, nameless.length === 0, nameless.join('\n'));
  checks.that(`text of ${tab} has the contrast of WCAG AA`, weak.length === 0, weak.join(', '));
  await page.setViewportSize({ width: 390, height: 844 });
  await pause(500);
  await browser.fitsPhone(page);
  await page.locator('.panels').evaluate((element) => { element.scrollTop = 0; });
  await shoot(page, `phone-${tab}`);
}
checks.that('the page has no faults of its own', browser.faults.length === 0, browser.faults.join('\n'));

await browser.close();
server.process.kill('SIGINT');
await server.ended;
checks.finish();
process.exit();
