// The worker: a host whose messages come from the page.
// SPDX-License-Identifier: MIT

import { Host } from './host.js';
import type { ToHost } from './protocol.js';

const host = new Host((message, transfer) => self.postMessage(message, { transfer }));

self.addEventListener('message', (event: MessageEvent<ToHost>) => host.receive(event.data));
