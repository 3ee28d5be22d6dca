// A service worker that tries to load a model, and tells the page what came of it.
// SPDX-License-Identifier: MIT

import { TernError, load } from 'ternlm';

self.addEventListener('message', ({ data, ports }: MessageEvent<string>) => {
  const tell = (found: string): void => ports[0]?.postMessage(found);
  load(data).then(
    async (model) => {
      await model.close();
      tell('loaded');
    },
    (error: unknown) => tell(error instanceof TernError ? error.code : String(error)),
  );
});
