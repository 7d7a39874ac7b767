/** `ext4d quota`: usage and limits in the quota files of an image. A FUSE mount has no quotactl(2): limits are set here. */
import { OverlayDevice } from '../block/overlay-device.js';
import { UnsupportedError } from '../errors.js';
import { closeVolume, openVolume } from '../ext4/open.js';
import type { Limits, Resource } from '../ext4/quota/quota-entry.js';
import { QUOTA_TYPES, type QuotaType } from '../ext4/quota/quota-file.js';
import type { Quotas } from '../ext4/quota/quotas.js';
import type { Volume } from '../ext4/volume.js';
import { parseArguments, UsageError } from './args.js';
import { COMMAND_TEXTS, usageOf } from './command-texts.js';
import { ImageExit } from './exit-codes.js';
import { placeIn, print, withImage } from './image-command.js';
import type { Place } from './partitions.js';

const MAX_ID = 0xfffffffe;
const UNIT_BYTES: Record<string, number> = { '': 1, k: 2 ** 10, m: 2 ** 20, g: 2 ** 30, t: 2 ** 40 };

interface Change {
  readonly type: QuotaType;
  readonly id: number;
  readonly limits: Partial<Record<Resource, Limits>>;
}

interface GraceChange {
  readonly type: QuotaType;
  readonly seconds: Record<Resource, number>;
}

interface Wanted {
  readonly image: string;
  readonly place?: Place;
  readonly journals: readonly string[];
  readonly json: boolean;
  readonly changes: readonly Change[];
  readonly graces: readonly GraceChange[];
}

/** Exit code: 0 done, 4 no quota feature, or corrupt, 8 operational error, 16 usage. */
export function runQuota(args: readonly string[]): number {
  let wanted: Wanted;
  try {
    wanted = parse(args);
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    process.stderr.write(`ext4d quota: ${error.message}\nusage: ${usageOf('quota')}; see: ext4d help quota\n`);
    return ImageExit.USAGE;
  }
  const { image, changes, graces, json } = wanted;
  const changing = changes.length + graces.length > 0;
  return withImage(wanted, { access: changing ? 'write' : 'read', json }, (device) => {
    // For looking, a dirty log is replayed in memory.
    const { volume, report } = openVolume(changing ? device : new OverlayDevice(device));
    const { quotas } = volume;
    if (quotas === null) {
      const why = report.readOnlyReasons.join('; ');
      throw new UnsupportedError(why === '' ? 'there is no quota feature: add it with tune2fs -O quota' : why);
    }
    if (changing) change(volume, quotas, wanted);
    else show(image, volume, quotas, json);
    closeVolume(volume);
    return ImageExit.OK;
  });
}

function parse(args: readonly string[]): Wanted {
  const { flags, values, positionals } = parseArguments(args, COMMAND_TEXTS.quota.options, ['IMAGE']);
  const last = (name: 'space' | 'inodes') => values[name].at(-1);
  const limits: Partial<Record<Resource, Limits>> = {};
  for (const what of ['space', 'inodes'] as const) {
    const value = last(what);
    if (value !== undefined) limits[what] = limitsOf(what, value);
  }
  const limited = Object.keys(limits).length > 0;
  if (limited !== values.set.length > 0) throw new UsageError('--set goes with --space or --inodes, or both');
  return {
    image: positionals[0],
    place: placeIn(values),
    journals: values.journal,
    json: flags.json,
    changes: values.set.map((value) => {
      const [type, id, more] = value.split(':');
      return { type: typeOf(type), id: number('--set', more === undefined ? id : undefined, MAX_ID), limits };
    }),
    graces: values.grace.map((value) => {
      const [type, space, inodes, more] = value.split(':');
      const seconds = (text: string | undefined) =>
        number('--grace', more === undefined ? text : undefined, 0xffffffff);
      return { type: typeOf(type), seconds: { space: seconds(space), inodes: seconds(inodes) } };
    }),
  };
}

function typeOf(text: string): QuotaType {
  const type = QUOTA_TYPES.find((each) => each === text);
  if (type === undefined) throw new UsageError(`"${text}": one of ${QUOTA_TYPES.join(', ')} is expected`);
  return type;
}

function number(option: string, text: string | undefined, max: number): number {
  const value = text !== undefined && /^\d+$/.test(text) ? Number(text) : Number.NaN;
  if (!(value <= max)) throw new UsageError(`${option}: a whole number is expected`);
  return value;
}

/** "10m:12m"; 0 stands for no limit. */
function limitsOf(what: Resource, text: string): Limits {
  const parts = text.split(':').map((part) => /^(\d+)([kmgt]?)$/i.exec(part));
  const [soft, hard] = parts.map((part) =>
    part === null ? Number.NaN : Number(part[1]) * UNIT_BYTES[part[2].toLowerCase()],
  );
  if (parts.length !== 2 || !(soft <= Number.MAX_SAFE_INTEGER) || !(hard <= Number.MAX_SAFE_INTEGER))
    throw new UsageError(
      `--${what} ${text}: SOFT:HARD is expected, as in ${what === 'space' ? '90m:100m' : '900:1000'}`,
    );
  return { soft, hard };
}

function change(volume: Volume, quotas: Quotas, { changes, graces }: Wanted): void {
  volume.journal.run(1, (handle) => {
    for (const { type, seconds } of graces) {
      quotas.setGrace(handle, type, 'space', seconds.space);
      quotas.setGrace(handle, type, 'inodes', seconds.inodes);
    }
  });
  for (const { type, id, limits } of changes) {
    volume.journal.run(1, (handle) => quotas.setLimits(handle, type, id, limits));
  }
}

function show(image: string, volume: Volume, quotas: Quotas, json: boolean): void {
  const types = [...volume.geometry.quotaInums.keys()];
  const report = types.map((type) => ({
    type,
    graceSeconds: { space: quotas.grace(type, 'space'), inodes: quotas.grace(type, 'inodes') },
    entries: entriesOf(quotas, type),
  }));
  if (json) {
    print(JSON.stringify({ image, quotas: report }));
    return;
  }
  for (const { type, graceSeconds, entries } of report) {
    print(`${type} quotas; grace: ${graceSeconds.space} s for space, ${graceSeconds.inodes} s for inodes`);
    print(row([type, 'KiB used', 'soft', 'hard', 'inodes', 'soft', 'hard']));
    for (const { id, space, inodes } of entries) {
      const kib = (bytes: number) => Math.ceil(bytes / 1024);
      const shown = [id, kib(space.used), kib(space.soft), kib(space.hard), inodes.used, inodes.soft, inodes.hard];
      print(row(shown.map(String)) + overdue(space) + overdue(inodes));
    }
  }
}

const WIDTHS = [10, 14, 14, 14, 10, 10, 10];
const row = (cells: readonly string[]) => cells.map((cell, i) => cell.padStart(WIDTHS[i])).join('');

const overdue = ({ graceEnd }: Shown) =>
  graceEnd === 0 ? '' : `  grace until ${new Date(Math.min(graceEnd, 8e12) * 1000).toISOString()}`;

interface Shown {
  readonly used: number;
  readonly soft: number;
  readonly hard: number;
  readonly graceEnd: number;
}

function entriesOf(quotas: Quotas, type: QuotaType): { id: number; space: Shown; inodes: Shown }[] {
  const entries: { id: number; space: Shown; inodes: Shown }[] = [];
  quotas.forEach(type, (entry) => {
    const shown = (what: Resource): Shown => ({
      used: entry.used(what),
      soft: entry.softLimit(what),
      hard: entry.hardLimit(what),
      graceEnd: entry.graceEnd(what),
    });
    entries.push({ id: entry.id, space: shown('space'), inodes: shown('inodes') });
  });
  return entries.sort((a, b) => a.id - b.id);
}
