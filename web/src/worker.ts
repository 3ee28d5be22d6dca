// The worker: a host whose messages come from the page.
// SPDX-License-Identifier: MIT

import { Host } from './host.js';
import type { Request } from './protocol.js';

const host = new Host((reply, transfer) => self.postMessage(reply, { transfer }));

self.addEventListener('message', (event: MessageEvent<Request>) => host.receive(event.data));
