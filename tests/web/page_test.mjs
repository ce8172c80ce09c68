// The page as a photographer uses it, in headless Chromium; the pictures that it takes are those of
// docs/page.md. Usage: node page_test.mjs LIMPID PAGE_BUILD CHROMIUM PICTURES
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';

import { allNamed, Browser, difference, floatsOf, mean, set, weakContrast } from './browser.mjs';
import { Checks, limpid, pause, serve, shell, step, workFolder } from './serving.mjs';

const [program, pageBuild, chromium, pictures] = process.argv.slice(2).map((word) => resolve(word));
const checks = new Checks();
const work = workFolder(), folder = join(work, 'frames');
mkdirSync(folder);
mkdirSync(pictures, { recursive: true });
const frame = join(folder, 'night.fits');
limpid(program, ['simulate', '--width', '1320', '--height', '880', '--star-count', '3600', '-o', frame]);
writeFileSync(join(folder, 'broken.fits'), readFileSync(frame).subarray(0, 100000));
mkdirSync(join(folder, 'empty'));

const server = await serve(program, folder);
const browser = await Browser.start(pageBuild, chromium, server.url, pictures, checks);
const { api, decode, fetchAgain, seen, shoot, until } = browser;
const visit = () => browser.visit();

/// Waits until the preview is of the options now set.
async function previewed(page, action) {
  const panel = page.locator('#panel-sharpen');
  const old = await panel.getAttribute('data-preview');
  const start = Date.now();
  await action();
  await until('a new preview', async () => {
    const now = await panel.getAttribute('data-preview');
    return now !== null && now !== old && !(await panel.getAttribute('class') ?? '').includes('rendering');
  });
  const took = Date.now() - start;
  await pause(400);  // its picture is drawn
  return took;
}
let page = await visit();

// ---- open ----

step('open');

await page.click('#welcome .row:has-text("empty/")');
await until('an empty folder says so', async () => /No FITS/.test(await page.innerText('#welcome')), 10);
await page.click('#welcome .row:has-text("empty")');
await page.click('#welcome .row:has-text("broken.fits")');
await page.waitForSelector('.message.error');
const complaint = await page.locator('.message.error').first().innerText();
checks.that('a bad file is told of in one line, without the way to the folder', /^broken\.fits: /.test(complaint), complaint);
await page.click('.message.error button');
const opening = Date.now();
await previewed(page, () => page.click('#welcome .row:has-text("night.fits")'));
console.log(`open to first preview: ${Date.now() - opening} ms`);
checks.that('the bar names the frame', (await page.innerText('.bar')).includes('night.fits') && (await page.innerText('#facts')).includes('1320 × 880'));
const left = { x: 180, y: 200, width: 200, height: 200 }, right = { x: 580, y: 200, width: 200, height: 200 };
checks.that('the picture is there', mean(await seen(page, left)) > 20);

// ---- stretch ----

step('stretch');

const dark = await seen(page, left);
await set(page, 'sky', 0.5);
await until('a brighter stretch', async () => mean(await seen(page, left)) > mean(dark) + 20);
await set(page, 'sky', 0.25);
await until('the stretch comes back', async () => difference(await seen(page, left), dark) < 1);
await page.mouse.move(480, 420);
await until('the pixel read-out', async () => /^\d+, \d+ +[\d.]+ [\d.]+ [\d.]+ +→/.test(await page.innerText('#readout')));
const [place, , values] = (await page.innerText('#readout')).split(/( {2,})/);
const pixel = await api(`/api/pixel?x=${place.split(', ')[0]}&y=${place.split(', ')[1]}`);
checks.that('the read-out is in units of the file', values.split(' ').every((text, i) => Math.abs(Number(text) - pixel.before[i]) < 1e-3), `${values} ${pixel.before}`);

// ---- live preview ----

step('live preview');

await page.click('#full');
await pause(900);
const recorded = await seen(page, left);
await page.keyboard.down('b');
await pause(300);
const soft = await seen(page, right);
await page.keyboard.up('b');
const took = await previewed(page, () => set(page, 'sharpen-stars', 0.4));
console.log(`preview after a slider: ${took} ms`);
let sharp = await seen(page, right);
checks.that('the preview changes the right side', difference(soft, sharp) > 0.4, difference(soft, sharp));
checks.that('and leaves the left as recorded', difference(recorded, await seen(page, left)) < 0.05);

// what is shown is what the command line makes of that region
const region = await page.evaluate(() => JSON.parse(localStorage.getItem('limpid')).view);
checks.that('the view is remembered', region.frame === 'night.fits');
const own = [300, 200, 400, 360];
const answer = await api('/api/preview', { options: { 'sharpen-stars': 0.4 }, region: own });
checks.that('a rough preview says that it is one', (await api('/api/preview', { options: { 'sharpen-stars': 0.3 }, region: own, rough: true })).rough === true && answer.rough === false);
const since = Date.now(), again = await api('/api/preview', { options: { 'sharpen-stars': 0.4 }, region: own });
checks.that('a setting tried before is there at once', again.layer === answer.layer && Date.now() - since < 500, `${again.layer} ${answer.layer} ${Date.now() - since} ms`);
const known = await api('/api/preview', { options: { 'sharpen-stars': 0.4 }, region: [400, 300, 100, 100], rough: true });
checks.that('and better than a rough one', known.layer === answer.layer && known.rough === false);
limpid(program, ['deconvolve', frame, '-o', join(work, 'region.fits'), '--region', own.join(), '--sharpen-stars', '0.4']);
const floats = floatsOf(readFileSync(join(work, 'region.fits')));
let same = 0, changed = 0, asked = 0;
for (let i = 0; i < 400 * 360; i += 487) {
  const [x, y] = [i % 400, Math.floor(i / 400)];
  const there = await api(`/api/pixel?x=${own[0] + x}&y=${own[1] + y}`);
  for (let c = 0; c < 3; ++c, ++asked) {
    if (there.preview?.[c] === floats.getFloat32(4 * ((c * 360 + y) * 400 + x))) ++same;
    if (there.preview?.[c] !== there.before[c]) ++changed;
  }
}
checks.that('the preview has the pixels of limpid deconvolve --region', same === asked && asked > 800, `${same} of ${asked}`);
// but for stars that are put back as recorded
checks.that('which are not those of the frame', changed > 0.9 * asked, `${changed} of ${asked}`);
const picture = async (layer, level, x, y, side) => decode(page, await (await fetchAgain(new URL(
  `/api/picture.png?layer=${layer}&level=${level}&x=${x}&y=${y}&w=${side}&h=${side}`, server.url))).arrayBuffer());
const whole = (await api('/api/state')).frame.id, sharper = await picture(again.layer, 0, 0, 0, 320);
checks.that('nor is their picture', difference(sharper, await picture(whole, 0, own[0], own[1], 320)) > 0.4);
{
  // every fourth pixel of every fourth row has the noise of single pixels, means of 4 x 4 have a quarter
  const fourth = (_, i) => Math.floor(i / 3) % 4 === 0 && Math.floor(i / 960) % 4 === 0;
  const frameAfar = await picture(whole, 2, own[0] / 4, own[1] / 4, 80);
  const afar = difference(await picture(again.layer, 2, 0, 0, 80), frameAfar);
  const single = difference({ data: sharper.data.filter(fourth) }, frameAfar);
  checks.that('seen from afar it is as smooth as the frame', afar < single / 2, `${afar} ${single}`);
}

// ---- divider and hold ----

step('divider and hold');

const box = await page.locator('#divider').boundingBox();
await page.mouse.move(box.x + 12, box.y + box.height / 2);
await page.mouse.down();
await page.mouse.move(900, 420, { steps: 4 });
await page.mouse.up();
await until('the right side is before, left of the border', async () => difference(await seen(page, right), soft) < 0.1);
await page.locator('#divider').focus();
await page.keyboard.press('Home');
await until('the keyboard moves the border', async () => difference(await seen(page, right), soft) > 0.3);
sharp = await seen(page, right);
await page.keyboard.down('b');
await until('hold shows the frame as recorded', async () => difference(await seen(page, right), soft) < 0.1);
await page.keyboard.up('b');
await until('and lets go', async () => difference(await seen(page, right), sharp) < 0.1);
for (let i = 0; i < 25; ++i) await page.keyboard.press('ArrowRight');
await page.click('#loupe-toggle');
await page.mouse.move(500, 400);
await page.waitForSelector('#loupe:not([hidden])');
await until('the loupe shows both', async () => page.evaluate(() => ['loupe-before', 'loupe-after'].every((id) => {
  const image = document.getElementById(id);
  return image.complete && image.naturalWidth === 150 && !image.parentElement.classList.contains('empty');
})));
await shoot(page, 'preview');
await page.click('#loupe-toggle');

// ---- reload ----

step('reload');

await page.reload();
await previewed(page, async () => {});
checks.that('the slider survives a reload', await page.inputValue('#sharpen-stars') === '0.4');
await page.click('#full');
await pause(700);
checks.that('so does the view', difference(recorded, await seen(page, left)) < 0.6, difference(recorded, await seen(page, left)));

// ---- the whole frame: cancel, reload in the middle, closed tab ----

step('the whole frame: cancel, reload in the middle, closed tab');

await page.click('#fit');
await page.locator('label:has(#correct-first)').click();
await page.click('#apply');
await page.waitForSelector('#progress');
await page.waitForSelector('#cancel');
await page.click('#cancel');
await page.waitForSelector('#apply:not([disabled])');
checks.that('a cancelled run leaves no result', (await api('/api/state')).result === null && await page.isDisabled('#save'));
await page.locator('label:has(#correct-first)').click();

await page.click('#apply');
await page.waitForSelector('#progress');
const fractions = new Set();
await page.reload();
// quick machines are done before the page is there again
await page.waitForSelector('#progress, #discard');
const over = await page.locator('#discard').count() > 0;
await until('progress to move', async () => {
  const value = await page.locator('#progress').getAttribute('value', { timeout: 500 }).catch(() => null);
  if (value !== null) fractions.add(value);
  return fractions.size > 2 || (await page.locator('#discard').count()) > 0;
});
checks.that('progress is told after a reload', over || fractions.size > 1, [...fractions].join(' '));
await page.waitForSelector('#discard');
await pause(600);
checks.that('the result is shown', difference(soft, await seen(page, right)) > 0.4);

await page.click('#discard');
await page.waitForSelector('#discard', { state: 'detached' });
await page.click('#apply');
await page.waitForSelector('#progress');
await page.close();
page = await visit();
await page.waitForSelector('#discard');
checks.that('a closed tab loses nothing', (await api('/api/state')).result.options['sharpen-stars'] === 0.4);
await page.locator('#divider').focus();
await page.keyboard.press('Home');
for (let i = 0; i < 25; ++i) await page.keyboard.press('ArrowRight');
await page.mouse.move(480, 300);
await pause(1200);
await shoot(page, 'whole');

// ---- save, and the command that does the same ----

step('save, and the command that does the same');

await page.click('.command summary');
await until('the command is written out', async () => (await page.innerText('#command')).includes('--sharpen-stars 0.4'));
checks.that('it names the file', (await page.innerText('#command')).startsWith(`limpid deconvolve ${folder}/night.fits -o ${folder}/night-sharp.fits`), await page.innerText('#command'));
await page.click('#save');
await page.selectOption('#save-format', '.xisf');
checks.that('the format is in the name', await page.inputValue('#save-name') === 'night-sharp.xisf');
await page.selectOption('#save-depth', 'u16');
await page.fill('#save-name', 'night.fits');
await page.click('#save-go');
await until('the frame itself is not replaced', async () => /night\.fits/.test(await page.innerText('#save-problem')));
await page.fill('#save-name', '../night.xisf');
await page.click('#save-go');
await until('names outside the folder are refused', async () => /names/.test(await page.innerText('#save-problem')));
await page.fill('#save-name', 'night sharp.xisf');
await page.click('#save-go');
await page.waitForSelector('#saving', { state: 'hidden' });
const saved = join(folder, 'night sharp.xisf');
checks.that('the file is there', existsSync(saved));
await page.click('#save');
await page.fill('#save-name', 'night sharp.xisf');
await page.click('#save-go');
await until('an existing file is not replaced', async () => /exists/.test(await page.innerText('#save-problem')));
await page.keyboard.press('Escape');
await until('the command follows', async () => (await page.innerText('#command')).includes('--depth u16'));
const command = await page.innerText('#command');
renameSync(saved, join(work, 'saved.xisf'));
shell(program, command, work);
checks.that('the command gives the same bytes', readFileSync(saved).equals(readFileSync(join(work, 'saved.xisf'))), command);

// ---- stars, trust ----

step('stars, trust');

await page.click('#tab-stars');
await page.waitForSelector('#map');
checks.that('a verdict on the sampling', (await page.innerText('#verdict')).length > 20);
checks.that('stars are listed', await page.locator('#stars tbody tr').count() > 100);
checks.that('and their profile drawn', await page.locator('#profile canvas').count() === 1);
await pause(500);
await shoot(page, 'stars');
const view = () => page.evaluate(() => JSON.stringify(JSON.parse(localStorage.getItem('limpid')).view));
const before = await view();
await page.locator('#stars tbody tr').nth(3).click();
await until('a star leads to its place', async () => (await view()) !== before);
{
  await pause(1500);
  /// Pixels of the screen that are as the one left of them: one of the frame covers several.
  const blocky = async (clip) => {
    const { width, data } = await seen(page, clip);
    let same = 0, all = 0;
    for (let i = 3; i < data.length; i += 3, ++all) if (i / 3 % width !== 0 && [0, 1, 2].every((c) => data[i + c] === data[i + c - 3])) ++same;
    return same / all;
  };
  const shares = [await blocky(left), await blocky(right)];
  checks.that('single pixels are squares on both sides of the border', shares.every((share) => share > 0.5), shares.join());
}
await page.locator('#stars tbody tr').nth(3).press('ArrowDown');
checks.that('arrows go from star to star', await page.locator('#stars tbody tr').nth(4).evaluate((row) => row === document.activeElement && row.classList.contains('chosen')));
await page.click('#fit');
await pause(900);
{
  const there = await page.locator('#viewer').boundingBox(), scale = Math.min(there.width / 1320, there.height / 880);
  const [x, y] = (await page.locator('#stars tbody tr').nth(9).locator('td').first().innerText()).split(', ').map(Number);
  await page.mouse.click(there.x + there.width / 2 + (x - 660) * scale, there.y + there.height / 2 + (y - 440) * scale);
  await until('a click on a star finds it in the list', async () => {
    const chosen = page.locator('#stars tbody tr.chosen td').first();
    const [cx, cy] = (await chosen.innerText()).split(', ').map(Number);
    return Math.hypot(cx - x, cy - y) < 12 / scale && await chosen.isVisible();
  }, 5);
}
await page.click('#tab-trust');
await page.waitForSelector('#trust-verdict');
await until('the photometry is drawn', async () => (await page.locator('#photometry canvas').count()) === 1);
await pause(1200);
const mapped = await seen(page, right);
await shoot(page, 'trust');
await page.locator('label:has(#trust-map)').click();
await until('the map goes', async () => difference(await seen(page, right), mapped) > 2);
await page.locator('label:has(#trust-map)').click();

// ---- dropped file, a phone ----

step('dropped file, a phone');

await page.click('#tab-sharpen');
await page.keyboard.press('o');
await page.waitForSelector('#files[open] .row');
limpid(program, ['simulate', '--width', '400', '--height', '300', '--star-count', '300', '-o', join(work, 'dropped.fits')]);
await page.setInputFiles('#files input[type=file]', join(work, 'dropped.fits'));
await until('a file from elsewhere is opened', async () => (await page.innerText('#file')) === 'dropped.fits');
checks.that('and lies in the folder', existsSync(join(folder, 'dropped.fits')));

// noise on the colours of a mosaic, without a star
{
  const side = 128, header = ['SIMPLE  =                    T', 'BITPIX  =                   16', 'NAXIS   =                    2',
    `NAXIS1  = ${side}`, `NAXIS2  = ${side}`, 'END'].map((card) => card.padEnd(80)).join('').padEnd(2880);
  const pixels = Buffer.alloc(Math.ceil(2 * side * side / 2880) * 2880);
  for (let i = 0, state = 1; i < side * side; ++i) {
    state = (state * 48271) % 2147483647;
    pixels.writeInt16BE(1000 + [0, 300, 300, 100][2 * (Math.floor(i / side) % 2) + i % 2] + state % 200, 2 * i);
  }
  writeFileSync(join(folder, 'mosaic.fits'), Buffer.concat([Buffer.from(header), pixels]));
}
checks.that('nothing is said of a mosaic where there is none', await page.isHidden('#mosaic'));
await page.evaluate(() => document.getElementById('panels').scrollTo(0, 60));
await page.click('#open');
await page.click('#files .row:has-text("mosaic.fits")');
await page.waitForSelector('#mosaic:visible');
await page.waitForSelector('#why-not');
checks.that('a panel begins at its top for another frame', await page.evaluate(() => document.getElementById('panels').scrollTop) === 0);
checks.that('what cannot be done is not offered', await page.isDisabled('#apply') && /give “PSF”/.test(await page.innerText('#sharpen-status')), await page.innerText('#sharpen-status'));
await page.evaluate(() => {
  const auto = document.getElementById('psf-auto');
  auto.click();
  auto.click();
});
await page.waitForSelector('#apply[disabled]', { timeout: 10000 });  // nor after a change that is taken back at once
await previewed(page, () => page.locator('label:has(#psf-auto)').click());
checks.that('but with a PSF by hand', await page.isEnabled('#apply') && await page.locator('#why-not').count() === 0);
await page.locator('label:has(#psf-auto)').click();
await page.waitForSelector('#apply[disabled]');
await page.setViewportSize({ width: 390, height: 844 });
await page.click('#open');
await previewed(page, () => page.click('#files .row:has-text("night.fits")'));
await browser.fitsPhone(page);
checks.that('the picture has its room', (await page.locator('#viewer').boundingBox()).height > 300);
await pause(600);
await shoot(page, 'phone');
const scrolled = () => page.evaluate(() => document.getElementById('panels').scrollTop);
await page.evaluate(() => document.getElementById('panels').scrollTo(0, 150));
const down = await scrolled();
await page.click('#tab-frames');
checks.that('a panel begins at its top', down > 50 && await scrolled() === 0, `${down} ${await scrolled()}`);
await page.click('#tab-sharpen');
checks.that('and stays where it was left', await scrolled() === down);

// ---- who cannot see it, or has no mouse ----

step('who cannot see it, or has no mouse');

const nameless = await allNamed(page);
checks.that('every control has a name', nameless.length === 0, nameless.join('\n'));
await page.keyboard.press('o');
await page.waitForSelector('#files[open] .row');
const dialog = await weakContrast(page);
checks.that('text of a dialog has the contrast of WCAG AA', dialog.length === 0, dialog.join(', '));
await page.keyboard.press('Escape');
const weak = await weakContrast(page);
checks.that('text has the contrast of WCAG AA', weak.length === 0, weak.join(', '));
checks.that('the page has no faults of its own', browser.faults.length === 0, browser.faults.join('\n'));

await browser.close();
server.process.kill('SIGINT');
checks.that('the server ends when asked', (await server.ended).code === 0);
checks.finish();
process.exit();
