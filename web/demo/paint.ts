// Colours parts of the text without touching it: the browser's custom highlights over its one text node.
// SPDX-License-Identifier: MIT

/** From where to where, in the text. */
export type Stretch = readonly [start: number, end: number];

/** What to colour, by the name that ::highlight() has in style.css. */
export type Marks = Readonly<Record<string, readonly Stretch[]>>;

/** Colours the text of `node` with these marks and takes away those called `before`; returns the names of these. */
export function paint(node: Text, marks: Marks, before: Iterable<string>): string[] {
  if (!('highlights' in CSS)) return []; // all of it can be read without colours
  for (const name of before) if (!(name in marks)) CSS.highlights.delete(name);
  const { length } = node;
  for (const [name, stretches] of Object.entries(marks)) {
    const ranges = stretches
      .filter(([start, end]) => start < end && end <= length)
      .map(
        ([startOffset, endOffset]) =>
          new StaticRange({ startContainer: node, startOffset, endContainer: node, endOffset }),
      );
    CSS.highlights.set(name, new Highlight(...ranges));
  }
  return Object.keys(marks);
}
