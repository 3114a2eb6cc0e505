// What went wrong, in words for people, and what to do about it.

/** The text for an EarshotError or ApiError: ours for its code, else what the server said. */
export function faultText(t, maybe, fault) {
  const ours = maybe(`phone.fault.${fault.code}`, "");
  if (ours) return ours;
  return t("phone.fault.other", { message: fault.message, code: fault.code ?? fault.name });
}
