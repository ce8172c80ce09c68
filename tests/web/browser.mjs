// Headless Chromium with the page in it, and what a test asks of pictures and controls.
import { mkdirSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';

import { pause } from './serving.mjs';

export class Browser {
  faults = [];

  static async start(pageBuild, chromium, url, pictures, checks) {
    const playwright = createRequire(join(pageBuild, 'package.json'))('playwright-core');
    const own = new Browser();
    mkdirSync(pictures, { recursive: true });
    Object.assign(own, { url, pictures, checks });
    own.browser = await playwright.chromium.launch({ executablePath: chromium, args: ['--no-sandbox', '--disable-gpu'] });
    own.context = await own.browser.newContext({ viewport: { width: 1280, height: 800 } });
    return own;
  }

  async visit() {
    const page = await this.context.newPage();
    page.setDefaultTimeout(60000);
    page.on('console', (message) => { if (message.type() === 'error' && !/status of 4/.test(message.text())) this.faults.push(message.text()); });
    page.on('pageerror', (error) => this.faults.push(error.message));
    await page.goto(this.url);
    return page;
  }

  close = () => this.browser.close();

  /// Node 18 writes to kept connections that the server closed while this program waited for another.
  fetchAgain = async (url, options) => {
    try {
      return await fetch(url, options);
    } catch (error) {
      if (!['UND_ERR_SOCKET', 'ECONNRESET', 'EPIPE'].includes(error.cause?.code)) throw error;
      return fetch(url, options);
    }
  };

  api = async (path, body) => (await this.fetchAgain(new URL(path, this.url), body === undefined ? {} : {
    method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(body) })).json();

  /// Pixels of a picture: {width, height, data: [r, g, b, r, ...]}.
  decode = async (page, bytes) => page.evaluate(async (text) => {
    const image = new Image();
    image.src = `data:image/png;base64,${text}`;
    await image.decode();
    const canvas = document.createElement('canvas');
    canvas.width = image.width;
    canvas.height = image.height;
    const context = canvas.getContext('2d', { willReadFrequently: true });
    context.drawImage(image, 0, 0);
    const { data } = context.getImageData(0, 0, image.width, image.height);
    return { width: image.width, height: image.height, data: [...data].filter((_, i) => i % 4 !== 3) };
  }, Buffer.from(bytes).toString('base64'));

  seen = async (page, clip) => this.decode(page, await page.screenshot({ clip }));

  until = async (what, holds, seconds = 60) => {
    const end = Date.now() + 1000 * seconds;
    while (Date.now() < end) {
      if (await holds()) return true;
      await pause(60);
    }
    this.checks.that(what, false, 'waited in vain');
    return false;
  };

  /// Smaller than the screen: these pictures go into docs/page.md.
  shoot = async (page, name) => {
    const path = join(this.pictures, `${name}.png`), screen = await page.screenshot();
    if (page.viewportSize().width < 600) return writeFileSync(path, screen);
    const small = await page.evaluate(async (text) => {
      const image = new Image();
      image.src = `data:image/png;base64,${text}`;
      await image.decode();
      const canvas = document.createElement('canvas');
      canvas.width = Math.round(0.75 * image.width);
      canvas.height = Math.round(0.75 * image.height);
      const context = canvas.getContext('2d');
      context.imageSmoothingQuality = 'high';
      context.drawImage(image, 0, 0, canvas.width, canvas.height);
      return canvas.toDataURL('image/png').split(',')[1];
    }, screen.toString('base64'));
    return writeFileSync(path, Buffer.from(small, 'base64'));
  };

  async fitsPhone(page) {
    this.checks.that('nothing is wider than a phone', await page.evaluate(() => document.documentElement.scrollWidth) <= 390);
    const outside = await page.evaluate(() => [...document.querySelectorAll('button, input, select, summary')]
      // control points of the sky may lie beyond the picture
      .filter((element) => element.checkVisibility() && !element.closest('#points') && (element.getBoundingClientRect().right > 391 || element.getBoundingClientRect().left < -1)).map((e) => e.id || e.textContent));
    this.checks.that('no control lies outside it', outside.length === 0, outside.join());
  }
}

export const mean = (picture) => picture.data.reduce((sum, value) => sum + value, 0) / picture.data.length;

export function difference(a, b) {
  if (a.data.length !== b.data.length) return Infinity;
  return a.data.reduce((sum, value, i) => sum + Math.abs(value - b.data[i]), 0) / a.data.length;
}

export const set = (page, id, value) => page.locator(`#${id}`).evaluate((input, v) => {
  input.value = v;
  input.dispatchEvent(new Event('input', { bubbles: true }));
}, String(value));

/// The pixels of a FITS file of floats, as a DataView that ends with them.
export function floatsOf(file) {
  const header = file.toString('latin1').match(/END {77}/).index;
  return new DataView(file.buffer, file.byteOffset + Math.ceil((header + 80) / 2880) * 2880);
}

/// Controls without a name that a screen reader could say.
export const allNamed = (page) => page.evaluate(() => [...document.querySelectorAll('button, input, select')].filter((element) => {
  const named = element.getAttribute('aria-label') || element.textContent.trim() || element.labels?.length || element.title;
  return !named && element.checkVisibility();
}).map((element) => element.outerHTML.slice(0, 80)));

/// Text with less contrast than WCAG AA asks for.
export const weakContrast = (page) => page.evaluate(() => {
  const parts = (colour) => colour.match(/[\d.]+/g).map(Number);
  const light = (rgb) => {
    const [r, g, b] = rgb.map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  /// What lies under a text; what is half transparent lies over a picture that is half bright.
  const ground = (element) => {
    const over = [];
    for (let at = element; at; at = at.parentElement) {
      const [r, g, b, alpha = 1] = parts(getComputedStyle(at).backgroundColor);
      if (alpha > 0) over.push([r, g, b, alpha]);
      if (alpha === 1) break;
      if (at.id === 'stage') over.push([128, 128, 128, 1]);
    }
    return over.reverse().reduce((under, [r, g, b, alpha]) => [r, g, b].map((v, i) => alpha * v + (1 - alpha) * under[i]), [25, 25, 25]);
  };
  const weak = [];
  for (const element of document.querySelectorAll('.bar *, .stage *, .panel *, dialog *, .messages *')) {
    const text = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!text || !element.checkVisibility() || element.closest(':disabled, .off')) continue;
    const [a, b] = [light(parts(getComputedStyle(element).color).slice(0, 3)), light(ground(element))].sort((x, y) => y - x);
    if ((a + 0.05) / (b + 0.05) < 4.5) weak.push(`${element.textContent.slice(0, 20)} ${((a + 0.05) / (b + 0.05)).toFixed(1)}`);
  }
  return weak;
});
