"""How far it goes: costs measured on one small machine, and a model of what they mean elsewhere."""
