// Runs in the page's worker before the package's own script, and counts what that asks of the network.
// SPDX-License-Identifier: MIT

import { watchRequests } from './requests.js';

const page = new BroadcastChannel(self.location.href);
watchRequests(() => page.postMessage(null));
