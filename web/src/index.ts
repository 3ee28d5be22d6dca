// What a program can import from the package.
// SPDX-License-Identifier: MIT

export { load, type LoadOptions, type LoadProgress, type Model, type ModelInfo } from './model.js';
export { probe, type Capabilities, type ProbeOptions } from './probe.js';
export type { KernelReport, KernelsReport } from './protocol.js';
export type { Chunk, GenerateResult, Generation, Timings } from './generation.js';
export type { FeedResult, Score, Session } from './session.js';
export type { GenerateOptions, SampleOptions, TraceOptions } from './options.js';
export type { Assets, PlaceInfo, Runtime, RuntimeInfo } from './client.js';
export type { Threads, ThreadsInfo } from './threads.js';
export type { Source } from './download.js';
export type { Input } from './utf8.js';
export { TernError, type TernErrorCode } from './errors.js';
