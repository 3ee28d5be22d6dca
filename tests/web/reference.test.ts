// The API reference has a page for every entry of the package, and every type that a reader meets there.
// SPDX-License-Identifier: MIT

import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';

const root = new URL('../../', import.meta.url);
const out = mkdtempSync(join(tmpdir(), 'ternlm-api-'));
afterAll(() => rmSync(out, { recursive: true }));

test('the reference is made without a warning, and says what the declarations say', () => {
  const said = execFileSync(process.execPath, ['web/reference.js', out], { cwd: root, encoding: 'utf8' });
  expect(said).toBe('');
  const page = (name: string): string => readFileSync(join(out, `${name}.md`), 'utf8');
  const manifest = readFileSync(new URL('web/package.json', root), 'utf8');
  const { exports } = JSON.parse(manifest) as { exports: Record<string, { types?: string }> };
  const entries = Object.entries(exports).filter(([, { types }]) => types && !/worker|\*|standalone/.test(types));
  expect(entries.length).toBeGreaterThan(12);
  const contents = page('README');
  for (const [subpath] of entries) {
    const name = subpath.replace('.', 'ternlm');
    expect(contents).toContain(`${name}.md`);
    expect(page(name)).toMatch(/^# /m);
  }
  expect(page('ternlm')).toContain('Loads a model: one of ours');
  expect(page('ternlm')).not.toMatch(/#private|keptTokens/); // what is not for programs
}, 300_000);
