/**
 * What a message of the queue is made of. Functions of two releases work at one queue while one replaces the other:
 * what is only added needs no new format, because whoever does not know it leaves it out. A later format than its own
 * is no message for a function.
 */
export const MESSAGE_FORMAT = 1;
