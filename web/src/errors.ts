// The one error type of the package: a stable code to branch on and a message that says what to do next.
// SPDX-License-Identifier: MIT

export type TernErrorCode =
  | 'bad-option' // an argument is wrong; nothing was started
  | 'bad-file' // the file is damaged, or not a model or compressed data
  | 'unsupported' // a sound file this version cannot run, or a browser that lacks something
  | 'bad-state' // the call does not fit what happened before
  | 'out-of-memory' // the page cannot get the memory that the model or one more conversation needs
  | 'http' // the server answered with an error status
  | 'network' // the request, or the reading of the file, failed or broke off
  | 'not-the-file' // the server answered with a web page in place of the file
  | 'incomplete' // fewer bytes arrived than the file's own header promises
  | 'integrity' // the bytes are not the ones the checksum promises
  | 'wrong-model' // compressed data of another model
  | 'bad-assets' // the package's own files could not be fetched or compiled
  | 'engine-failed' // the engine stopped; the model must be loaded again
  | 'closed'; // the model or session was closed

/** An error as plain data, the form in which it crosses from the engine's half to the page's. */
export interface ErrorData {
  readonly code: TernErrorCode;
  readonly message: string;
}

export class TernError extends Error {
  readonly code: TernErrorCode;

  constructor(code: TernErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'TernError';
    this.code = code;
  }

  static fromData(data: ErrorData): TernError {
    return new TernError(data.code, data.message);
  }

  /** The error itself if it is one of ours; anything else becomes one with the code `fallback`. */
  static from(error: unknown, fallback: TernErrorCode, prefix = ''): TernError {
    if (error instanceof TernError) return error;
    if (isOurs(error)) return new TernError(error.code, error.message, { cause: error });
    return new TernError(fallback, `${prefix}${describe(error)}`, { cause: error });
  }
}

/** Whether it is a TernError, also of a part of the package that is bundled by itself and has the class once more. */
export function isOurs(error: unknown): error is Error & ErrorData {
  return error instanceof Error && error.name === 'TernError' && 'code' in error;
}

/** Why one of the package's own files may be missing, and what helps. */
export function leftBehind(remedy: string): string {
  return `esbuild and Rollup leave files behind; ${remedy}`;
}

export function describe(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** "`name` must be `expected`, found ..." */
export function badOption(name: string, expected: string, found: unknown): TernError {
  return new TernError('bad-option', `${name} must be ${expected}, found ${show(found)}`);
}

function show(value: unknown): string {
  if (typeof value === 'string') return JSON.stringify(value.length > 60 ? `${value.slice(0, 60)}…` : value);
  if (typeof value === 'function' || typeof value === 'symbol') return `a ${typeof value}`;
  if (typeof value !== 'object' || value === null) return String(value);
  return Array.isArray(value) ? 'an array' : `an object (${Object.prototype.toString.call(value).slice(8, -1)})`;
}
