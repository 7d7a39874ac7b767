/** What direct I/O takes: requests that the page cache neither answers nor gathers. */

export const O_DIRECT = process.arch === 'arm64' ? 0o200000 : 0o40000;

/** Memory of its own pages, which begins with one. */
export function alignedBuffer(bytes: number): Buffer {
  const memory = Buffer.from(new SharedArrayBuffer(bytes));
  if (memory.byteOffset % 4096 !== 0) throw new Error('shared memory does not begin with a page');
  return memory;
}
