// A link that saves what the page has made.
// SPDX-License-Identifier: MIT

import { useEffect, useRef } from 'preact/hooks';

export function Download({ name, data }: { name: string; data: Blob }) {
  const link = useRef<HTMLAnchorElement>(null);
  useEffect(() => {
    const address = URL.createObjectURL(data);
    if (link.current) link.current.href = address;
    return () => URL.revokeObjectURL(address);
  }, [data]);
  return (
    <a ref={link} class="download" download={name}>
      Save {name}
    </a>
  );
}
