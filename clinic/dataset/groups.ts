/** Ids as in the real installation: not in the order of names, and with gaps. */
export const GROUP_IDS = {
  Patient: 1,
  Doctor: 2,
  Admin: 4,
  Master: 5,
  Sales: 6,
  Support: 7,
  Billing: 8,
  Medical: 9,
  Technician: 11,
  Export: 13,
} as const;

export type GroupName = keyof typeof GROUP_IDS;
