// The one error type of the package: a stable code to branch on and a message that says what to do next.
// SPDX-License-Identifier: MIT

export type TernErrorCode =
  | 'bad-option' // an argument is wrong; nothing was started
  | 'bad-file' // the model file is damaged or not a model
  | 'unsupported' // a sound file this version cannot run, or a browser that lacks something
  | 'bad-state' // the call does not fit what happened before
  | 'out-of-memory' // the page cannot get the memory the model needs
  | 'http' // the server answered with an error status
  | 'network' // the request failed or broke off
  | 'not-the-file' // the server answered with a web page in place of the file
  | 'incomplete' // fewer bytes arrived than were announced
  | 'integrity' // the bytes are not the ones the checksum promises
  | 'bad-assets' // the package's own .wasm could not be fetched or compiled
  | 'engine-failed' // the engine stopped; the model must be loaded again
  | 'closed'; // the model or session was closed

/** An error as plain data, the form in which it crosses from the worker to the page. */
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
}

/** What went wrong, as data; anything that is not a TernError becomes `fallback`. */
export function toErrorData(error: unknown, fallback: TernErrorCode): ErrorData {
  if (error instanceof TernError) return { code: error.code, message: error.message };
  return { code: fallback, message: describe(error) };
}

export function describe(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** The reason of an aborted signal: the platform's AbortError unless the caller gave another. */
export function abortReason(signal: AbortSignal): Error {
  const reason: unknown = signal.reason;
  return reason instanceof Error ? reason : new DOMException('The operation was aborted.', 'AbortError');
}
