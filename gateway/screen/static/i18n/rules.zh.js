export default {
  "rules.title": "规则",
};
