// The panels beside the text, below it on a phone. A panel is a component in a file of this folder, and one entry here:
// it is drawn inside a <details> with its title, reads what it needs from ../state.ts and ../sheet.ts (signals: it is drawn
// again when they change), and has things done by the functions of ../writer.ts. Its styles go into style.css under its id.
// SPDX-License-Identifier: MIT

import type { ComponentType } from 'preact';
import { Developers } from './Developers.js';
import { Models } from './Models.js';
import { Settings } from './Settings.js';

export interface PanelEntry {
  readonly id: string;
  readonly title: string;
  readonly Panel: ComponentType;
  /** Where there is room; on a phone all are closed. */
  readonly open: boolean;
}

export const kPanels: readonly PanelEntry[] = [
  { id: 'settings', title: 'Settings', Panel: Settings, open: true },
  { id: 'developers', title: 'Use it in your page', Panel: Developers, open: false },
  { id: 'card', title: 'The model', Panel: Models, open: true },
];
