// The page's parts and where they go: beginnings, the text with its lenses and buttons, and panels beside it.
// SPDX-License-Identifier: MIT

import { useLayoutEffect } from 'preact/hooks';
import { kPanels, type PanelEntry } from '../panels/index.js';
import { presets } from '../presets.js';
import { spoken } from '../speech.js';
import { lens, phase, wide } from '../state.js';
import { clear, tellPreset } from '../writer.js';
import { Branches } from './Branches.js';
import { Desk } from './Desk.js';
import { keepFocus } from './focus.js';
import { Meters } from './Meters.js';
import { Paper } from './Paper.js';
import { LensPanel, Tabs } from './Tabs.js';
import { Timeline } from './Timeline.js';

export function App() {
  const current = phase.value;
  useLayoutEffect(() => {
    document.body.dataset['phase'] = current;
    keepFocus();
  });
  return (
    <>
      <Beginnings />
      <div class="columns">
        <div class="left">
          <section class="stage" aria-label="Story">
            <Tabs />
            <Paper />
            <div class="desk" id="desk">
              <Timeline />
              {wide.value ? <Meters /> : <LensPanel />}
              <Desk />
            </div>
          </section>
          <Branches />
        </div>
        <div class="side">
          {wide.value && <LensPanel />}
          <Panels place="side" />
        </div>
        <div class="below">
          <Panels place="below" />
        </div>
      </div>
      <p class="unseen" id="announce" aria-live="polite">
        {spoken.value.map(({ key, sentence }) => (
          <span key={key}>{sentence} </span>
        ))}
      </p>
    </>
  );
}

function Panels({ place }: Pick<PanelEntry, 'place'>) {
  return kPanels
    .filter((panel) => panel.place === place)
    .map(({ id, title, Panel, open = false }) => (
      <details key={id} class="panel" id={id} open={open && wide.value}>
        <summary>{title}</summary>
        <Panel />
      </details>
    ));
}

function Beginnings() {
  const isIdle = phase.value === 'loading' || phase.value === 'broken';
  const begin = (react: () => void) => () => {
    lens.value = 'read';
    react();
  };
  return (
    <div class="examples" id="examples" role="group" aria-label="Beginnings">
      {presets.map((preset) => (
        <button
          key={preset.name}
          class="example"
          type="button"
          title={preset.prompt}
          disabled={isIdle}
          onClick={begin(() => tellPreset(preset))}
        >
          {preset.name}
        </button>
      ))}
      <button
        class="example"
        id="clear"
        type="button"
        disabled={isIdle}
        onClick={begin(() => {
          clear();
          document.getElementById('text')?.focus();
        })}
      >
        A blank page
      </button>
    </div>
  );
}
