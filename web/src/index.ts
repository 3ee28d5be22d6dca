// What a program can import from the package.
// SPDX-License-Identifier: MIT

export { load, type LoadOptions, type Model, type ModelInfo, type StorageInfo } from './api/model.js';
export type { LoadProgress } from './api/progress.js';
export type { Cache } from './store/kept.js';
export type { PlaceName } from './store/places.js';
export type { Fetch } from './request.js';
export { probe, type Capabilities, type ProbeOptions } from './api/probe.js';
export type {
  EngineInfo,
  FileInfo,
  Finish,
  KernelReport,
  KernelsReport,
  Threads,
  ThreadsInfo,
  Variant,
} from './engine/types.js';
export type { Chunk, GenerateResult, Generation, Timings } from './api/generation.js';
export type { ChatOptions, ChatResult, Message, Reply } from './api/chat.js';
export type { Distribution, FeedResult, Score, Session } from './api/session.js';
export type {
  CallOptions,
  GenerateOptions,
  SampleOptions,
  ScoreOptions,
  SessionOptions,
  TextOptions,
  TraceOptions,
} from './api/options.js';
export type { LikelyToken, TokenScore } from './api/scores.js';
export type { Constraint, Extras, Likelihood, Stop, StopText, TokenLogprob } from './extras.js';
export type { Assets, PlaceInfo, Runtime, RuntimeInfo } from './link/start.js';
export type { ModelFile, Source } from './api/source.js';
export type { Input } from './codec.js';
export { TernError, type ErrorData, type TernErrorCode } from './errors.js';
