// The panels beside the text and below it; on a phone all are below it, and closed. A panel is a component in a file of this folder, and one entry here:
// it is drawn inside a <details> with its title, reads what it needs from ../state.ts and ../sheet.ts (signals: it is drawn
// again when they change), and has things done by the functions of ../writer.ts. Its styles go into style.css under its id.
// What lazily() wraps is fetched when the panel is opened.
// SPDX-License-Identifier: MIT

import type { ComponentType } from 'preact';
import { lazily } from '../parts/Lazy.js';
import { Developers } from './Developers.js';
import { Models } from './Models.js';
import { Settings } from './Settings.js';

export interface PanelEntry {
  readonly id: string;
  readonly title: string;
  readonly Panel: ComponentType;
  /** 'side': beside the text where there is room, and open there if `open`; 'below' the text: what needs room itself. */
  readonly place: 'side' | 'below';
  readonly open?: boolean;
}

export const kPanels: readonly PanelEntry[] = [
  { id: 'settings', title: 'Settings', Panel: Settings, place: 'side', open: true },
  { id: 'card', title: 'Models', Panel: Models, place: 'side' },
  {
    id: 'your-file',
    title: 'Your file',
    Panel: lazily(async () => (await import('./YourFile.js')).YourFile),
    place: 'below',
  },
  {
    id: 'measure',
    title: 'Measure',
    Panel: lazily(async () => (await import('./Measure.js')).Measure),
    place: 'below',
  },
  { id: 'developers', title: 'Use it in your page', Panel: Developers, place: 'below' },
];

export function openPanel(id: string): void {
  const panel = document.getElementById(id);
  if (!(panel instanceof HTMLDetailsElement)) return;
  panel.open = true;
  panel.scrollIntoView({ block: 'nearest' });
}
