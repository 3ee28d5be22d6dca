// Runs the bench build of the engine: streams a model into it, then calls it with the words of a command line.
self.onmessage = async ({ data: { script, words, url } }) => {
  const lines = [];
  const complaints = [];
  try {
    const { default: create } = await import(script);
    const module = await create({ print: (line) => lines.push(line), printErr: (line) => complaints.push(line) });
    const put = (bytes) => {
      const at = module._bench_buffer(bytes.length);
      module.HEAPU8.set(bytes, at);
      return bytes.length;
    };
    const check = (status) => {
      if (status !== 0) throw new Error(complaints.join('\n'));
    };
    if (url) {
      const response = await fetch(url);
      if (!response.ok) throw new Error(`${url}: ${response.status}`);
      for (const reader = response.body.getReader(); ;) {
        const { done, value } = await reader.read();
        if (done) break;
        check(module._bench_push(put(value)));
      }
      check(module._bench_finish());
    }
    const text = words.map((word) => `${word}\0`).join('');
    check(module._bench_run(put(new TextEncoder().encode(text))));
    self.postMessage({ lines });
  } catch (error) {
    self.postMessage({ error: [String(error?.stack ?? error), ...complaints].join('\n') });
  }
};
