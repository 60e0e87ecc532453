/** The one exception that a user is meant to read: what is wrong, and what to do, in one sentence. */
export class EditError extends Error {
  constructor(message) {
    super(message);
    this.name = "EditError";
  }
}
