/** Writes many keys with one life in one billed command. KEYS: the keys; ARGV: their values, then seconds. */
export const SET_MANY_SCRIPT =
  "for i, key in ipairs(KEYS) do redis.call('set', key, ARGV[i], 'EX', ARGV[#KEYS + 1]) end return #KEYS";
