// The text itself: a field that can be typed in anywhere, with one text node inside, coloured by the lens that is chosen.
// SPDX-License-Identifier: MIT

import { effect } from '@preact/signals';
import { useLayoutEffect, useRef } from 'preact/hooks';
import { lensOf } from '../lenses/index.js';
import { paint, type Marks, type Stretch } from '../paint.js';
import * as sheet from '../sheet.js';
import { hovered, lens, phase } from '../state.js';
import { edit, travel } from '../writer.js';

export function Editor() {
  const field = useRef<HTMLDivElement>(null);
  useLayoutEffect(() => (field.current ? connect(field.current) : undefined), []); // its text is there with the first paint
  return (
    <div
      id="text"
      class="text"
      ref={field}
      role="textbox"
      aria-multiline="true"
      aria-label="The text: type anywhere"
      aria-describedby="keys"
      spellcheck={false}
      dir="auto"
    />
  );
}

function connect(field: HTMLElement): () => void {
  makeEditable(field);
  const node = new Text(sheet.text.peek());
  field.append(node);
  const listen = new AbortController();
  const on = <K extends keyof HTMLElementEventMap>(name: K, react: (event: HTMLElementEventMap[K]) => void): void =>
    field.addEventListener(name, react, { signal: listen.signal });
  on('beforeinput', (event) => {
    const isLine = event.inputType === 'insertParagraph' || event.inputType === 'insertLineBreak';
    const pasted = event.inputType === 'insertFromPaste' ? event.dataTransfer?.getData('text/plain') : undefined;
    if (event.inputType === 'historyUndo' || event.inputType === 'historyRedo') {
      event.preventDefault();
      travel(event.inputType === 'historyUndo');
    } else if (isLine || pasted) {
      // Browsers make elements of lines, and long texts slowly.
      event.preventDefault();
      type(field, pasted?.replaceAll('\r\n', '\n') ?? '\n');
    }
  });
  on('paste', (event) => {
    const pasted = event.clipboardData?.getData('text/plain') ?? '';
    event.preventDefault();
    if (pasted !== '') type(field, pasted.replaceAll('\r\n', '\n'));
  });
  on('input', (event) => {
    if (!(event instanceof InputEvent && event.isComposing)) take(field, node);
  });
  on('compositionend', () => take(field, node));
  on('keydown', (event) => {
    if (!(event.ctrlKey || event.metaKey) || !['z', 'y'].includes(event.key.toLowerCase())) return;
    event.preventDefault();
    travel(event.key.toLowerCase() === 'z' && !event.shiftKey);
  });
  on('pointermove', (event) => {
    if (event.pointerType === 'mouse') hovered.value = lens.value === 'surprise' ? placeOf(field, event) : null;
  });
  on('pointerleave', () => (hovered.value = null));
  document.addEventListener('selectionchange', () => see(field), { signal: listen.signal });

  let painted: string[] = [];
  const stop = [
    effect(() => show(field, node, sheet.text.value)),
    effect(() => {
      field.classList.toggle('busy', phase.value === 'writing');
      field.dataset['from'] = String(sheet.from.value);
    }),
    effect(() => {
      field.inputMode = lens.value === 'surprise' ? 'none' : 'text'; // a tap is to look at a byte there
    }),
    effect(() => {
      void sheet.text.value;
      painted = paint(node, { ...authors(), ...lensOf(lens.value).marks?.() }, painted);
    }),
  ];
  return () => {
    listen.abort();
    for (const end of stop) end();
  };
}

/** Browsers before 2025 know no fields of plain text; what is pasted is made plain above. */
function makeEditable(field: HTMLElement): void {
  try {
    field.contentEditable = 'plaintext-only';
  } catch {
    field.contentEditable = 'true';
  }
}

/** Whose words these are, and what the model would write anew. */
function authors(): Marks {
  const own: Stretch[] = [];
  let at = 0;
  for (const { by, length } of sheet.runs.value) {
    if (by === 'reader') own.push([at, at + length]);
    at += length;
  }
  const isWriting = phase.value === 'writing' || lens.value !== 'read';
  return { own, after: isWriting ? [] : [[sheet.pen.value, at]] };
}

/** Brings the field up to date; the reader's cursor stays where it is. */
function show(field: HTMLElement, node: Text, text: string): void {
  field.classList.toggle('blank', text === '');
  if (node.data === text) return;
  if (text.startsWith(node.data)) return node.appendData(text.slice(node.length));
  const { start, end } = selected(field) ?? {};
  node.data = text;
  if (start !== undefined && end !== undefined) select(node, Math.min(start, text.length), Math.min(end, text.length));
}

/** What the reader has changed in the field becomes a change of the text. */
function take(field: HTMLElement, node: Text): void {
  const [before, now] = [sheet.text.peek(), field.textContent];
  const at = selected(field)?.end ?? now.length;
  if (field.childNodes.length !== 1 || field.firstChild !== node) {
    field.replaceChildren(node);
    node.data = now;
    select(node, at, at);
  }
  if (now === before) return;
  const most = Math.min(before.length, now.length);
  let end = 0; // of the text, the same; as long as the cursor is before it, so that of equal letters the typed one counts
  while (end < Math.min(most, now.length - at) && before.at(-1 - end) === now.at(-1 - end)) end++;
  let start = 0;
  while (start < most - end && before[start] === now[start]) start++;
  edit(start, before.length - end, now.slice(start, now.length - end));
}

/** Puts words in the place of what is selected. */
function type(field: HTMLElement, words: string): void {
  const { start, end } = selected(field) ?? { start: sheet.text.peek().length, end: sheet.text.peek().length };
  edit(start, end, words);
  const node = field.firstChild;
  if (node instanceof Text) select(node, start + words.length, start + words.length);
}

/** The character under a point of the screen. */
function placeOf(field: HTMLElement, { clientX, clientY }: PointerEvent): number | null {
  const node = field.firstChild;
  const at = caretAt(clientX, clientY);
  if (!(node instanceof Text) || at?.node !== node) return null;
  // The cursor would go to the nearer side of a character.
  for (const start of [at.offset, at.offset - 1]) {
    if (start < 0 || start >= node.length) continue;
    const range = new Range();
    range.setStart(node, start);
    range.setEnd(node, start + 1);
    for (const { left, right, top, bottom } of range.getClientRects()) {
      if (left <= clientX && clientX < right && top <= clientY && clientY < bottom) return start;
    }
  }
  return null;
}

function caretAt(x: number, y: number): { node: Node; offset: number } | null {
  if ('caretPositionFromPoint' in document) {
    const found = document.caretPositionFromPoint(x, y);
    return found && { node: found.offsetNode, offset: found.offset };
  }
  // eslint-disable-next-line @typescript-eslint/no-deprecated -- WebKit's older name for it
  const found = (document as Document).caretRangeFromPoint(x, y);
  return found && { node: found.startContainer, offset: found.startOffset };
}

/** The reader's cursor. While the model writes, it counts only if it is not at the end. */
function see(field: HTMLElement): void {
  const found = document.activeElement === field ? selected(field) : null;
  if (!found) return;
  sheet.caret.value = found.end === sheet.text.peek().length ? null : found.end;
}

function selected(field: HTMLElement): { start: number; end: number } | null {
  const range = getSelection()?.rangeCount ? getSelection()?.getRangeAt(0) : undefined;
  if (!range || !field.contains(range.startContainer) || !field.contains(range.endContainer)) return null;
  const start = offsetOf(field, range.startContainer, range.startOffset);
  return { start, end: range.collapsed ? start : offsetOf(field, range.endContainer, range.endOffset) };
}

function offsetOf(field: HTMLElement, node: Node, offset: number): number {
  if (node === field.firstChild && node instanceof Text) return offset;
  const before = new Range();
  before.setStart(field, 0);
  before.setEnd(node, offset);
  return before.toString().length;
}

function select(node: Text, start: number, end: number): void {
  getSelection()?.setBaseAndExtent(node, Math.min(start, node.length), node, Math.min(end, node.length));
}
