/** The library: ext4 images from Node, with no mount and no root. */
export type { BlockDevice, IoJob, IoStep } from './block/device.js';
export { FileDevice } from './block/file-device.js';
export { MemoryDevice } from './block/memory-device.js';
export { CorruptionError, FsError, UnsupportedError } from './errors.js';
export type { Mode, PathLike, Time } from './library/arguments.js';
export { Dir } from './library/directory.js';
export { FileHandle } from './library/file-handle.js';
export type { AllocationMode } from './library/file-space.js';
export { Image } from './library/image.js';
export { ImageError } from './library/image-error.js';
export type * from './library/image-options.js';
export { type ImageSource, type OpenImageOptions, openImage, replayImage } from './library/open-image.js';
export type { OwnDevice } from './library/own-device.js';
export { BigIntStats, Dirent, Stats, type StatsFs } from './library/stats.js';
export type { StreamOptions, WriteStreamOptions } from './library/streams.js';
