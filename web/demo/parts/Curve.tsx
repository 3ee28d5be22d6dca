// What a file costs the model along its way, as a curve; and how small it becomes, beside compressors.
// SPDX-License-Identifier: MIT

import { useSignal } from '@preact/signals';
import { kMostBytes, measure, pack, stopMeasuring, type Measured, type Packed } from '../measured.js';
import { model } from '../state.js';
import { Download } from './Download.js';

const [kWidth, kHeight] = [480, 96];

const count = (bytes: number): string => bytes.toLocaleString('en');

export function Curve({ file, packed }: { file: Measured; packed: Packed | null }) {
  const { value: current } = model;
  const isReading = file.state === 'reading';
  const isBusy = packed?.state === 'compressing' || packed?.state === 'checking';
  const isOther = current !== null && current.info.fingerprint !== file.fingerprint;
  const isWhole = file.state === 'read' && file.bytes.length === file.size;
  const left = (file.bytes.length - file.done) / file.bytesPerSecond;
  return (
    <div class="measured">
      <p class="file-name">
        {file.name}
        <span class="figure">{count(file.size)} bytes</span>
      </p>
      {file.size > file.bytes.length && (
        <p class="hint" id="file-limit">
          Only its first {count(kMostBytes)} bytes are read: all would take too long in a page.
        </p>
      )}
      {file.bytes.length === 0 ? <p>The file is empty: nothing to measure.</p> : <Line file={file} />}
      <p id="file-bits" role="status">
        {file.done > 0 && (
          <>
            <b>{(file.bits / file.done).toFixed(3)}</b> bits a byte over {count(file.done)} bytes, read by {file.model}
          </>
        )}
        {file.state === 'stopped' && '. Stopped here.'}
        {file.state === 'failed' && `The model could not read on: ${file.problem}.`}
      </p>
      {isReading && file.bytes.length > 0 && (
        <div class="row">
          <progress aria-label="Read" max={1} value={file.done / file.bytes.length} />
          <span class="hint figure">{file.done > 0 && secondsLeft(left)}</span>
          <button class="button small" id="file-stop" type="button" onClick={stopMeasuring}>
            Stop
          </button>
        </div>
      )}
      {file.done > 0 && !isReading && <Sizes file={file} packed={packed} />}
      <div class="row">
        {isWhole && current && !isOther && (
          <button
            class="button small"
            id="file-compress"
            type="button"
            disabled={isBusy || packed?.state === 'equal'}
            onClick={() => void pack(current, file)}
          >
            Compress with the model
          </button>
        )}
        {isBusy && (
          <button class="button small" id="file-stop" type="button" onClick={stopMeasuring}>
            Stop
          </button>
        )}
        {isOther && !isReading && (
          <button
            class="button small"
            type="button"
            onClick={() => void measure(current, file.name, new Blob([file.bytes]))}
          >
            Read it with {current.info.name}
          </button>
        )}
      </div>
      {packed && <Verdict file={file} packed={packed} />}
    </div>
  );
}

function secondsLeft(seconds: number): string {
  return seconds < 90 ? `${Math.ceil(seconds)} s left` : `${Math.ceil(seconds / 60)} min left`;
}

/** The file to the right, bits a byte upwards. */
function Line({ file }: { file: Measured }) {
  const at = useSignal<number | null>(null);
  const { curve, step, bytes } = file;
  const most = Math.ceil(Math.max(2, ...curve));
  const x = (bucket: number): number => (kWidth * Math.min(bytes.length, bucket * step)) / bytes.length;
  const y = (bits: number): number => kHeight - (kHeight * bits) / most;
  const path = curve.map(
    (bits, i) =>
      `${i === 0 ? 'M' : 'V'}${i === 0 ? `0 ${y(bits).toFixed(1)}` : y(bits).toFixed(1)}H${x(i + 1).toFixed(1)}`,
  );
  const looked = at.value !== null && at.value < curve.length ? at.value : null;
  const find = (event: PointerEvent & { currentTarget: Element }): void => {
    const { left, width } = event.currentTarget.getBoundingClientRect();
    at.value = Math.floor((((event.clientX - left) / width) * bytes.length) / step);
  };
  return (
    <figure class="curve">
      <svg
        viewBox={`0 0 ${kWidth} ${kHeight}`}
        preserveAspectRatio="none"
        role="img"
        aria-label={`Bits a byte along the file, ${curve.length} stretches of ${step} bytes`}
        onPointerMove={find}
        onPointerDown={find}
        onPointerLeave={() => (at.value = null)}
      >
        {Array.from({ length: Math.floor(most) }, (_, bits) => (
          <path key={bits} class="grid" d={`M0 ${y(bits + 1).toFixed(1)}H${kWidth}`} />
        ))}
        {looked !== null && (
          <rect class="looked" x={x(looked)} width={Math.max(1, x(looked + 1) - x(looked))} y={0} height={kHeight} />
        )}
        <path class="line" id="file-curve" d={path.join('')} />
      </svg>
      <figcaption>
        <span>{most} bits a byte at the top</span>
        <span id="file-looked">
          {looked === null
            ? 'Point at the curve to see the text there'
            : `${(curve[looked] ?? 0).toFixed(2)} bits: “${wordsAt(file, looked)}”`}
        </span>
      </figcaption>
    </figure>
  );
}

function wordsAt({ bytes, step }: Measured, bucket: number): string {
  const from = bucket * step;
  return new TextDecoder().decode(bytes.subarray(from, from + Math.min(step, 60))).replaceAll(/\s+/g, ' ');
}

function Sizes({ file, packed }: { file: Measured; packed: Packed | null }) {
  const made = packed?.bytes?.length;
  const rows: [name: string, id: string, bytes: number | null][] = [
    ['As it is', 'plain', file.done],
    ['gzip', 'gzip', file.gzip],
    ['brotli 11', 'brotli', file.brotli],
    [made === undefined ? 'The model, at best' : 'The model', 'model', made ?? Math.ceil(file.bits / 8)],
  ];
  return (
    <>
      <dl class="sizes">
        {rows.map(([name, id, bytes]) => (
          <div key={id}>
            <dt>{name}</dt>
            <dd>
              <meter min={0} max={file.done} value={bytes ?? 0} aria-label={name} />
              <span class="figure" id={`size-${id}`}>
                {bytes === null ? '…' : count(bytes)}
              </span>
            </dd>
          </div>
        ))}
      </dl>
      <p class="hint">
        Bytes of the {count(file.done)} that were read. gzip as this browser does it, brotli at its highest level. The
        model’s are what its guesses cost; whoever unpacks needs the model, too, which is not counted.
      </p>
    </>
  );
}

function Verdict({ file, packed }: { file: Measured; packed: Packed }) {
  return (
    <p id="file-verdict" role="status">
      {packed.state === 'compressing' && 'The model compresses it: about as long as reading it took…'}
      {packed.state === 'checking' && 'And finds it again…'}
      {packed.state === 'failed' && `Not compressed: ${packed.problem}.`}
      {packed.state === 'different' && 'What came back is different: please report this device.'}
      {packed.state === 'equal' && packed.bytes && (
        <>
          {count(packed.bytes.length)} bytes, and found again from them: all {count(file.bytes.length)} bytes are equal
          ✓ ({packed.seconds.toFixed(1)} s). <Download name={`${file.name}.tnc`} data={new Blob([packed.bytes])} />{' '}
          <span class="hint">Drop it here to have the file back, or use “tern decompress”.</span>
        </>
      )}
    </p>
  );
}
