import type { Filesystem } from './filesystem.js';

/** The filesystem with some of its methods replaced; the others are used as they are. */
export function withStandIns(fs: Filesystem, standIns: Partial<Filesystem>): Filesystem {
  return new Proxy(fs, {
    get(target, name) {
      const standIn = standIns[name as keyof Filesystem];
      if (standIn !== undefined) return standIn;
      const value = Reflect.get(target, name, target) as unknown;
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
}
