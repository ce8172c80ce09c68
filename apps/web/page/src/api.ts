// What the server says and takes.

export interface FrameState {
  id: string; name: string; width: number; height: number; channels: number; levels: number;
  format: string; pixel_scale_arcsec: number | null; notes: string[];
  /// there is a glance to see; the rest is still being read
  loading: boolean;
  /// of a colour camera, not yet debayered
  mosaic: boolean;
}
export interface ResultState {
  id: string; command: 'deconvolve' | 'background'; trust: string | null; options: Options; model: string; seconds: number;
}
export interface JobState {
  kind: 'run' | 'measure' | 'preview' | 'fit' | 'combine'; command: string; fraction: number; stage: string; seconds_left: number | null;
}
export interface State {
  version: number; program: string; folder: string;
  frame: FrameState | null; result: ResultState | null; job: JobState | null;
  sky: { id: string } | null;
  combination: { id: string; output: string; iterations: number; done: boolean } | null;
  measured: boolean; error: { id: number; text: string } | null; notes: string[];
}
/// A control point; without values it takes those of the sky around it.
export interface Point { x: number; y: number; values?: number[]; }
/// Those of a sky that was changed by hand, as --points takes them.
export interface PointSet { points: Point[]; removed?: Point[]; correction?: object; }
export type Value = string | number | boolean | null | PointSet;
export type Options = Record<string, Value>;
export interface Parameter {
  name: string; type: string; minimum?: number; maximum?: number; choices?: string[];
  default: Value; text: string;
}
export interface Listing {
  folder: string; folders: string[]; files: { name: string; bytes: number; changed: number }[];
}
export interface PreviewAnswer {
  layer: string; levels: number; region: [number, number, number, number]; rough: boolean; seconds: number; network_seconds: number; model: string;
  device: string; fwhm_px: number; fwhm_asked_px: number; notes: string[];
}
export interface PixelAnswer {
  x: number; y: number; before: (number | null)[]; after?: (number | null)[];
  preview?: (number | null)[]; sky?: (number | null)[];
}
export interface MeasuredStar {
  x: number; y: number; flux: number; snr: number; fwhm_px: number; ellipticity: number;
  saturated: boolean;
}
export interface Cell {
  x: number; y: number; fwhm_px: number; ellipticity: number; angle_rad: number;
}
export interface Measurement {
  fwhm_px: { median: number; per_channel: number[] };
  fwhm_arcsec?: { median: number };
  ellipticity: { median: number }; eccentricity: { median: number }; beta: { median: number };
  stars: { detected: number; used: number; saturated: number };
  sky: number[]; noise: number[];
  sampling: { verdict: string; reason: string };
  tilt: number; off_axis: number; summary: string;
  field: { columns: number; rows: number; cells: Cell[] };
  list: MeasuredStar[]; profiles: [number, number][][];
}
export interface ChangedStar {
  x: number; y: number; flux_before: number; flux_after: number; fwhm_before_px: number;
  fwhm_after_px: number; centroid_shift_px: number; ellipticity_after: number;
}
export interface Report {
  summary?: string; seconds: number; noise_ratio?: number; model: string; notes: string[];
  stars?: { compared: number; flux_ratio: { median: number; scatter: number };
            centroid_shift_px: { median: number; scatter: number };
            fwhm_ratio: { median: number; scatter: number }; fwhm_ratio_asked: number;
            ellipticity_before: { median: number }; ellipticity_after: { median: number } };
  reblurring?: {
    residual_rms: number; star_residual_rms: number; unclipped_star_residual_rms: number; tiles: number;
    doubtful_tiles: { x: number; y: number; width: number; height: number; residual_rms: number;
                      worst_sigma: number }[];
  };
  list: ChangedStar[];
}
export interface Sky {
  id: string; options: Options; level: number[]; model_range: number[]; noise: number[];
  masked_share: number; missing_share: number; sky_hidden: boolean; loss: number; iterations: number; start_kept: boolean;
  downscale: number; curve: number[]; seconds: number; notes: string[];
  control_points: { points: Point[]; correction?: object };
  mask_region: [number, number, number, number];
}
export interface Combination {
  id: string; output: string; curve: [number, number, number][]; command?: string;
  frames_used?: number; stopped_early?: boolean; notes?: string[];
  frames?: { name: string; used: boolean; reason?: string; weight?: number; rejected?: number;
             psf?: { fwhm_px: number; stars: number } }[];
}
export interface Look { sky: number; linked: boolean; }

/// The server's own sentence about what is wrong.
export class Refusal extends Error {
  constructor(text: string, readonly status: number, readonly interrupted: boolean) { super(text); }
  /// The frame does not allow what was asked of it.
  get undoable(): boolean { return this.status === 422; }
}

/// Whether the same may succeed a little later: another job runs, or the server is away.
export const passing = (error: unknown) => !(error instanceof Refusal) || [0, 404, 409].includes(error.status);

async function read<T>(response: Response): Promise<T> {
  const body = await response.json().catch(() => ({ error: `the server answered ${response.status}` }));
  if (!response.ok) throw new Refusal(body.error ?? 'refused', response.status, body.interrupted === true);
  return body as T;
}

async function reach(path: string, init?: RequestInit): Promise<Response> {
  try {
    return await fetch(path, init);
  } catch {
    throw new Refusal('limpid does not answer; is `limpid serve` still running?', 0, false);
  }
}

export async function get<T>(path: string, query: Record<string, string | number> = {}): Promise<T> {
  const text = new URLSearchParams(Object.entries(query).map(([k, v]) => [k, String(v)])).toString();
  return read<T>(await reach(text ? `${path}?${text}` : path));
}

export async function post<T>(path: string, body: unknown = {}): Promise<T> {
  return read<T>(await reach(path, {
    method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(body),
  }));
}

export async function upload(file: File): Promise<string> {
  const answer = await read<{ name: string }>(await reach(
    `/api/upload?name=${encodeURIComponent(file.name)}`,
    { method: 'POST', headers: { 'Content-Type': 'application/octet-stream' }, body: file }));
  return answer.name;
}

export function pictureUrl(layer: string, level: number, x: number, y: number, w: number, h: number,
                           look: Look): string {
  return `/api/picture.png?layer=${layer}&level=${level}&x=${x}&y=${y}&w=${w}&h=${h}` +
         `&sky=${look.sky}&linked=${look.linked ? 1 : 0}`;
}
