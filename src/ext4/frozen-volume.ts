/** A volume for looking only: what recovery reads before there is a journal, and what `journal` and `info` describe. */
import type { BlockDevice } from '../block/device.js';
import type { CorruptionError } from '../errors.js';
import { BlockCache } from '../jbd2/block-cache.js';
import type { BlockRuns } from '../jbd2/block-runs.js';
import { HomeStore } from '../jbd2/home-store.js';
import { Journal } from '../jbd2/journal.js';
import { realEnvironment } from './environment.js';
import { type Environment, type Geometry, Volume } from './volume.js';

/** Its journal takes no handles, nothing is written, and the log on the device is not looked at. */
export function frozenVolume(device: BlockDevice, geometry: Geometry, cacheBytes?: number): Volume {
  const volume = directVolume(device, geometry, realEnvironment, { cacheBytes });
  volume.journal.disable();
  volume.turnReadOnly();
  return volume;
}

/** A volume whose transactions go straight to the device, and that leaves the superblock's marks alone: for work in memory. */
export function directVolume(
  device: BlockDevice,
  geometry: Geometry,
  env: Environment,
  { cacheBytes, log }: { readonly cacheBytes?: number; readonly log?: BlockRuns } = {},
): Volume {
  const cache = new BlockCache(device, geometry.blockSize, cacheBytes);
  const hooks = {
    monotonicMs: env.monotonicMs,
    now: env.now,
    schedule: () => () => {},
    beforeFirstCommit: () => [],
    committed: () => {},
    aborted: () => {},
  };
  const journal = new Journal(new HomeStore(device, geometry.blockSize), cache, hooks, { commitIntervalMs: 0 });
  return new Volume({ device, geometry, cache, journal, env, readOnly: false, log, onError: ignore });
}

function ignore(_error: CorruptionError): void {}
