import { describeEndToEnd } from "./support/end-to-end.ts";

describeEndToEnd(15);
