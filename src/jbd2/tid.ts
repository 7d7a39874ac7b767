/** Transaction ids: unsigned 32-bit numbers that wrap; compared by signed distance (jbd2 `tid_gt`, `tid_geq`). */
export type Tid = number;

export const tidNext = (tid: Tid): Tid => (tid + 1) >>> 0;
export const tidPrevious = (tid: Tid): Tid => (tid - 1) >>> 0;
export const tidGt = (a: Tid, b: Tid): boolean => ((a - b) | 0) > 0;
export const tidGeq = (a: Tid, b: Tid): boolean => ((a - b) | 0) >= 0;
