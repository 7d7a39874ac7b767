/**
 * Read-only and writable looks at the same bytes. At run time both are a DataView and a Uint8Array; the types decide
 * who may write. A metadata block shows {@link ReadView} and {@link ReadBytes} until a journal handle grants write
 * access, so that a change outside a transaction does not compile.
 */

export interface ReadView {
  readonly byteLength: number;
  getUint8(offset: number): number;
  getUint16(offset: number, littleEndian?: boolean): number;
  getUint32(offset: number, littleEndian?: boolean): number;
  getInt8(offset: number): number;
  getInt16(offset: number, littleEndian?: boolean): number;
  getInt32(offset: number, littleEndian?: boolean): number;
  getBigUint64(offset: number, littleEndian?: boolean): bigint;
}

declare const writable: unique symbol;

/** Granted by a journal handle for metadata; a plain DataView over private memory is cast with {@link ownView}. */
export interface WriteView extends ReadView {
  readonly [writable]: true;
  setUint8(offset: number, value: number): void;
  setUint16(offset: number, value: number, littleEndian?: boolean): void;
  setUint32(offset: number, value: number, littleEndian?: boolean): void;
  setBigUint64(offset: number, value: bigint, littleEndian?: boolean): void;
}

export interface ReadBytes {
  readonly length: number;
  readonly [index: number]: number;
  subarray(begin?: number, end?: number): ReadBytes;
  slice(begin?: number, end?: number): Uint8Array;
}

/** A writable view of memory that no cache shares: message buffers, freshly built records. */
export function ownView(bytes: Uint8Array): WriteView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength) as unknown as WriteView;
}

export function readView(bytes: Uint8Array): ReadView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
